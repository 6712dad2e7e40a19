"""The official `openai` client: only `base_url` differs from OpenAI.

pip install openai
python openai_chat.py [http://localhost:8080]
"""

import sys

from openai import OpenAI

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
MODEL = "qwen2.5:0.5b"

client = OpenAI(base_url=f"{BASE}/v1", api_key="unused")

# The raw answer has the headers that say where the request went, and why.
raw = client.chat.completions.with_raw_response.create(
    model=MODEL,
    messages=[{"role": "user", "content": "Say hello."}],
    max_tokens=12,
    extra_headers={"X-Latency-Critical": "true"},
)
print("Chat:", raw.parse().choices[0].message.content)
print("Answered by", raw.headers["X-Backend-Used"], "-", raw.headers["X-Routing-Reason"])

print("Stream: ", end="")
stream = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
    max_tokens=40,
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"routing": {"max_power_watts": 20}},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    elif chunk.usage:
        print(f"\n{chunk.usage.completion_tokens} tokens")

vectors = client.embeddings.create(model=MODEL, input=["first text", "second text"]).data
print("Embeddings:", len(vectors), "vectors of", len(vectors[0].embedding), "numbers")
