package main

import (
	"fmt"
	"strings"
)

const (
	marker = "bench-answer"
	// In every chunk of the mock's own OpenAI streams, and in none that was made from Ollama's.
	upstreamId = "chatcmpl-bench"
	asking     = "Please summarise the following notes about rivers, foxes and lazy dogs in a few short sentences. "
)

// makeRequest is head and body of a chat request of about 1 KB; asked of a cache, each connection has a question of its
// own, or they would all be told one answer that was looked up once.
func makeRequest(asked options, stream bool, connection int) []byte {
	path, more := "/v1/chat/completions", ""
	switch {
	case asked.dialect == "ollama":
		path = "/api/chat"
	case asked.native:
		more = `,"max_completion_tokens":4096`
	default:
		more = `,"max_tokens":4096`
	}
	wish, question := "", strings.Repeat(asking, 9)
	if asked.cached {
		more += `,"temperature":0`
		wish, question = "X-Cache-Enabled: true\r\n", fmt.Sprintf("%02d: %s", connection, question)
	}
	body := fmt.Sprintf(`{"model":"bench-model","messages":[{"role":"system","content":"You are a helpful assistant."},`+
		`{"role":"user","content":"%s"}],"stream":%t%s}`, question, stream, more)
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n"+
		"Authorization: Bearer sk-bench\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
		path, asked.address, wish, len(body), body)
}
