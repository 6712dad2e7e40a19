"""The official `anthropic` client: only `base_url` differs from Anthropic.

pip install anthropic
python anthropic_chat.py [http://localhost:8080]
"""

import sys

from anthropic import Anthropic

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
MODEL = "qwen2.5:0.5b"

client = Anthropic(base_url=BASE, api_key="unused")

message = client.messages.create(
    model=MODEL,
    max_tokens=12,
    system="Answer in one short sentence.",
    messages=[{"role": "user", "content": "Say hello."}],
)
print("Message:", "".join(block.text for block in message.content if block.type == "text"))

print("Stream: ", end="")
with client.messages.stream(
    model=MODEL,
    max_tokens=40,
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
    extra_headers={"X-Target-Backend": "ollama-igpu"},
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    usage = stream.get_final_message().usage
print(f"\n{usage.output_tokens} tokens")
