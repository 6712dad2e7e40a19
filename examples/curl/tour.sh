#!/bin/sh
# The HTTP port with curl alone:
#   ./tour.sh [http://localhost:8080]
set -eu
base=${1:-http://localhost:8080}
model=qwen2.5:0.5b
json="Content-Type: application/json"

echo "== Who is there"
curl -fsS "$base/health"

echo "== Ollama's API, one answer"
curl -fsS "$base/api/generate" -d '{"model": "'$model'", "prompt": "Say hello.", "stream": false, "options": {"num_predict": 8}}'
echo

echo "== Ollama's API, a stream (-N: show each line as it comes)"
curl -fsSN "$base/api/chat" -d '{"model": "'$model'", "messages": [{"role": "user", "content": "Say hello."}], "options": {"num_predict": 8}}'

echo "== OpenAI's API; the headers say where it went, and why"
curl -fsS -D - "$base/v1/chat/completions" -H "$json" -H "X-Latency-Critical: true" \
    -d '{"model": "'$model'", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}'
echo

echo "== OpenAI's API, a stream"
curl -fsSN "$base/v1/chat/completions" -H "$json" \
    -d '{"model": "'$model'", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "stream": true}'

echo "== Anthropic's API"
curl -fsS "$base/v1/messages" -H "$json" -H "anthropic-version: 2023-06-01" \
    -d '{"model": "'$model'", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}'
echo

echo "== compute.v1 as REST"
curl -fsS "$base/compute/v1/generate" -H "$json" \
    -d '{"model": "'$model'", "prompt": "Say hello.", "options": {"maxTokens": 8}, "annotations": {"preferPowerEfficiency": true}}'
echo

echo "== A wish that nobody can meet is an error that says so"
curl -sS "$base/api/generate" -H "X-Max-Power-Watts: 0.5" -d '{"model": "'$model'", "prompt": "Say hello."}'
echo
