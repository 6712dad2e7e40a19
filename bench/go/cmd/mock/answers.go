package main

import (
	"fmt"
	"net"
	"strings"
)

const (
	model   = "bench-model"
	created = `"created":1790000000`
	madeAt  = `"2026-09-21T12:00:00.000000Z"`
	// What the load program looks for in a whole answer; about 0.6 KB of answer in all.
	sentence = "The quick brown fox jumps over the lazy dog near the quiet river bank. "
	counts   = `"total_duration":900000000,"load_duration":1000000,"prompt_eval_count":200,` +
		`"prompt_eval_duration":100000000,"eval_count":40,"eval_duration":800000000`
	usage   = `"usage":{"prompt_tokens":200,"completion_tokens":40,"total_tokens":240}`
	inOut   = `"usage":{"input_tokens":200,"output_tokens":40}`
	details = `"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],` +
		`"parameter_size":"1B","quantization_level":"Q4_K_M"}`
	listed = `"name":"bench-model:latest","model":"bench-model:latest","size":400000000,` +
		`"digest":"0000000000000000000000000000000000000000000000000000000000000000",` + details
)

var (
	text       = "bench-answer: " + strings.Repeat(sentence, 4)
	openaiChat = whole(`{"id":"chatcmpl-bench","object":"chat.completion",` + created + `,"model":"bench-model",` +
		`"choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `"},"logprobs":null,` +
		`"finish_reason":"stop"}],` + usage + `}`)
	openaiText = whole(`{"id":"cmpl-bench","object":"text_completion",` + created + `,"model":"bench-model",` +
		`"choices":[{"index":0,"text":"` + text + `","logprobs":null,"finish_reason":"stop"}],` + usage + `}`)
	ollamaChat = whole(`{"model":"bench-model","created_at":` + madeAt + `,"message":{"role":"assistant","content":"` +
		text + `"},"done":true,"done_reason":"stop",` + counts + `}`)
	anthropicText = whole(`{"id":"msg_bench","type":"message","role":"assistant","model":"bench-model","content":[{"type":"text",` +
		`"text":"` + text + `"}],"stop_reason":"end_turn","stop_sequence":null,` + inOut + `}`)
	ollamaText = whole(`{"model":"bench-model","created_at":` + madeAt + `,"response":"` + text +
		`","done":true,"done_reason":"stop","context":[1,2,3],` + counts + `}`)
)

// Also what routers ask of vLLM and SGLang servers before they send anything.
var pages = map[string][]byte{
	"/api/version":     whole(`{"version":"0.12.0"}`),
	"/api/tags":        whole(`{"models":[{` + listed + `,"modified_at":` + madeAt + `}]}`),
	"/api/ps":          whole(`{"models":[{` + listed + `,"expires_at":"2036-01-01T00:00:00Z","size_vram":400000000,"context_length":4096}]}`),
	"/api/show":        whole(`{` + details + `,"model_info":{"general.architecture":"llama","llama.context_length":4096},"capabilities":["completion"]}`),
	"/v1/models":       whole(`{"object":"list","data":[{"id":"bench-model","object":"model",` + created + `,"owned_by":"bench","max_model_len":4096}]}`),
	"/get_server_info": whole(`{"model_path":"bench-model","served_model_name":"bench-model","version":"0.5.0","tp_size":1,"dp_size":1,"max_req_input_len":4096}`),
	"/get_model_info":  whole(`{"model_path":"bench-model","tokenizer_path":"bench-model","is_generation":true}`),
	"/version":         whole(`{"version":"0.12.0"}`),
	"/metrics":         whole(""),
	"/health":          whole(""),
}

func init() {
	pages["/server_info"] = pages["/get_server_info"]
	pages["/model_info"] = pages["/get_model_info"]
}

func whole(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func answer(conn net.Conn, request *request) error {
	switch request.path {
	case "/v1/chat/completions":
		return answerModel(conn, request, openaiChat, &openaiChatStream, false)
	case "/v1/completions":
		return answerModel(conn, request, openaiText, &openaiTextStream, false)
	case "/api/chat":
		return answerModel(conn, request, ollamaChat, &ollamaChatStream, true)
	case "/api/generate":
		return answerModel(conn, request, ollamaText, &ollamaTextStream, true)
	case "/v1/messages":
		return answerModel(conn, request, anthropicText, &anthropicStream, false)
	case "/mock/pace":
		return setPace(conn, request.query)
	}
	page, found := pages[request.path]
	switch {
	case !found && request.method == "GET":
		page = whole("Ollama is running")
	case !found:
		page = []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	case request.method == "HEAD":
		page = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	_, err := conn.Write(page)
	return err
}

func answerModel(conn net.Conn, request *request, body []byte, form *streamForm, streamsByDefault bool) error {
	if request.streams(streamsByDefault) {
		return stream(conn, form, request.wantsUsage())
	}
	_, err := conn.Write(body)
	return err
}
