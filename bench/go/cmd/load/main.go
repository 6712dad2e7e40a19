// Load is the client of the bench: it sends a fixed number of requests, finishes every one, looks into every answer,
// and prints one line of JSON about all of them. Whatever is not a whole, right answer counts as an error.
//
// In the mode "stream" it prints {"event":"open"} when every stream has its first token and {"event":"closing"} just
// before the first one ends, and answers each line on its standard input with {"event":"mark"}; all three say how many
// tokens had come by then.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"time"
)

type options struct {
	address     string
	dialect     string
	mode        string
	native      bool
	cached      bool
	connections int
	requests    int
	streams     int
	ramp        time.Duration
	limit       time.Duration
}

// A report gives times in microseconds, as medians and tails.
type report struct {
	Count        int              `json:"count"`
	Errors       int              `json:"errors"`
	FirstError   string           `json:"first_error,omitempty"`
	Reconnects   int              `json:"reconnects"`
	Seconds      float64          `json:"seconds"`
	LatencyUs    map[string]int64 `json:"latency_us,omitempty"`
	Chunks       int64            `json:"chunks,omitempty"`
	TtftUs       map[string]int64 `json:"ttft_us,omitempty"`
	ChunkDelayUs map[string]int64 `json:"chunk_delay_us,omitempty"`
}

func main() {
	log.SetFlags(0)
	var asked options
	flag.StringVar(&asked.address, "address", "127.0.0.1:21001", "host:port")
	flag.StringVar(&asked.dialect, "dialect", "openai", "openai or ollama")
	flag.StringVar(&asked.mode, "mode", "unary", "unary or stream")
	flag.BoolVar(&asked.native, "native", false, "ask for something (max_completion_tokens) that Ollama's own /v1 layer does not know")
	flag.BoolVar(&asked.cached, "cached", false, "ask for an answer from the proxy's cache")
	flag.IntVar(&asked.connections, "connections", 16, "connections of the mode unary")
	flag.IntVar(&asked.requests, "requests", 1000, "requests of the mode unary, in all")
	flag.IntVar(&asked.streams, "streams", 100, "streams of the mode stream, a connection each")
	flag.DurationVar(&asked.ramp, "ramp", 500*time.Millisecond, "over which the streams are opened")
	flag.DurationVar(&asked.limit, "limit", time.Minute, "for each answer")
	flag.Parse()
	var found report
	if asked.mode == "stream" {
		found = runStreams(asked)
	} else {
		found = runUnary(asked)
	}
	print(found)
}

func print(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		log.Fatal(err)
	}
}
