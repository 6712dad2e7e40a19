package main

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

var (
	intervalNs atomic.Int64
	tokens     atomic.Int64
	opened     atomic.Uint64
)

func init() {
	intervalNs.Store(int64(time.Millisecond))
	tokens.Store(50)
}

// A streamForm is the bytes around the tokens of one dialect's stream. The text of a token is the time it was sent:
// `t=` and nanoseconds since 1970, so that whoever receives it on this machine knows how long it was under way.
type streamForm struct {
	head          string
	before, after string // of each token
	end, usage    string // the end, and what goes before its last marker when usage was asked for
	last          string
}

const (
	openaiChunk = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk",` + created + `,"model":"bench-model","choices":[`
	sseHead     = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	ndjsonHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
	ollamaChunk = `{"model":"bench-model","created_at":` + madeAt + `,`
	sseUsage    = openaiChunk + "]," + usage + "}\n\n"
	sseDone     = "data: [DONE]\n\n"
)

var (
	openaiChatStream = streamForm{
		head: sseHead, before: openaiChunk + `{"index":0,"delta":{"content":"`, after: `"},"logprobs":null,"finish_reason":null}]}` + "\n\n",
		end: openaiChunk + `{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}` + "\n\n", usage: sseUsage, last: sseDone,
	}
	openaiTextStream = streamForm{
		head: sseHead, before: openaiChunk + `{"index":0,"text":"`, after: `","logprobs":null,"finish_reason":null}]}` + "\n\n",
		end: openaiChunk + `{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}` + "\n\n", usage: sseUsage, last: sseDone,
	}
	ollamaChatStream = streamForm{
		head: ndjsonHead, before: ollamaChunk + `"message":{"role":"assistant","content":"`, after: `"},"done":false}` + "\n",
		end: ollamaChunk + `"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",` + counts + "}\n",
	}
	anthropicStream = streamForm{
		head: sseHead + framed(sseEvent("message_start", `"message":{"id":"msg_bench","type":"message","role":"assistant",`+
			`"model":"bench-model","content":[],"stop_reason":null,"stop_sequence":null,`+inOut+`}`)+
			sseEvent("content_block_start", `"index":0,"content_block":{"type":"text","text":""}`)),
		before: "event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`,
		after:  `"}}` + "\n\n",
		end: sseEvent("content_block_stop", `"index":0`) +
			sseEvent("message_delta", `"delta":{"stop_reason":"end_turn","stop_sequence":null},`+inOut),
		last: "event: message_stop\ndata: " + `{"type":"message_stop"}` + "\n\n",
	}
	ollamaTextStream = streamForm{
		head: ndjsonHead, before: ollamaChunk + `"response":"`, after: `","done":false}` + "\n",
		end: ollamaChunk + `"response":"","done":true,"done_reason":"stop","context":[1,2,3],` + counts + "}\n",
	}
)

func sseEvent(kind, members string) string {
	return "event: " + kind + "\ndata: {" + `"type":"` + kind + `",` + members + "}\n\n"
}

func framed(data string) string {
	return fmt.Sprintf("%x\r\n%s\r\n", len(data), data)
}

// stream sends one token a write. The first comes at once; the others keep an interval, from a phase of the stream's
// own: or streams that open together would tick together for ever.
func stream(conn net.Conn, form *streamForm, withUsage bool) error {
	interval := time.Duration(intervalNs.Load())
	count := tokens.Load()
	phase := float64(opened.Add(1)) * 0.6180339887
	start := time.Now().Add(time.Duration(float64(interval) * (phase - float64(int64(phase)))))
	out := append(make([]byte, 0, 1024), form.head...)
	for index := int64(0); index < count; index++ {
		if index > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(index-1) * interval)))
		}
		if _, err := conn.Write(appendToken(out, form)); err != nil {
			return err
		}
		out = out[:0]
	}
	if interval > 0 {
		time.Sleep(time.Until(start.Add(time.Duration(count-1) * interval)))
	}
	end := form.end
	if withUsage {
		end += form.usage
	}
	end += form.last
	_, err := fmt.Fprintf(conn, "%x\r\n%s\r\n0\r\n\r\n", len(end), end)
	return err
}

func appendToken(out []byte, form *streamForm) []byte {
	var room [24]byte
	stamp := strconv.AppendInt(room[:0], time.Now().UnixNano(), 10)
	size := len(form.before) + len("t= ") + len(stamp) + len(form.after)
	out = strconv.AppendInt(out, int64(size), 16)
	out = append(out, "\r\n"...)
	out = append(out, form.before...)
	out = append(out, "t="...)
	out = append(out, stamp...)
	out = append(out, ' ')
	out = append(out, form.after...)
	return append(out, "\r\n"...)
}

func setPace(conn net.Conn, query string) error {
	values, err := url.ParseQuery(query)
	interval, intervalErr := strconv.ParseFloat(values.Get("interval_ms"), 64)
	count, countErr := strconv.ParseInt(values.Get("tokens"), 10, 64)
	if err != nil || intervalErr != nil || countErr != nil || count < 1 {
		_, err := conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
		return err
	}
	intervalNs.Store(int64(interval * 1e6))
	tokens.Store(count)
	_, err = conn.Write(whole("{}"))
	return err
}
