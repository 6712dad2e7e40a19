"""The official `ollama` client: only `host` differs from a single Ollama server.

pip install ollama
python ollama_chat.py [http://localhost:8080]
"""

import sys

from ollama import Client

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
MODEL = "qwen2.5:0.5b"

# Headers steer the routing of every request of this client: here, the device that draws the least power.
client = Client(host=BASE, headers={"X-Power-Efficient": "true"})

print("Models:", ", ".join(model.model or "?" for model in client.list().models))

print("Chat: ", end="")
for part in client.chat(
    MODEL,
    messages=[{"role": "user", "content": "Why is the sky blue? One sentence."}],
    options={"num_predict": 40},
    stream=True,
):
    print(part.message.content, end="", flush=True)
print()

# The same wishes go into the request itself, next to Ollama's own options.
answer = client.generate(MODEL, "Say hello.", options={"num_predict": 8, "routing": {"target": "ollama-nvidia"}})
print("Generate:", answer.response)

vectors = client.embed(MODEL, ["first text", "second text"]).embeddings
print("Embed:", len(vectors), "vectors of", len(vectors[0]), "numbers")
