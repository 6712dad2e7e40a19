// Mock is the upstream of the bench: it speaks Ollama and OpenAI with answers made beforehand, so that it costs next
// to nothing beside what is measured. It serves every port of a range on 127.0.0.1.
//
// POST /mock/pace?interval_ms=20&tokens=50 sets how later streams flow: the first token at once, then one an interval.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"time"
)

const headBytes = 16 << 10

func main() {
	first := flag.Int("port", 21001, "first port")
	count := flag.Int("ports", 4, "how many ports")
	flag.Parse()
	for port := *first; port < *first+*count; port++ {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			log.Fatal(err)
		}
		go accept(listener)
	}
	select {}
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			// Out of descriptors, most likely; they come back.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, headBytes)
	for {
		request, err := readRequest(reader, conn)
		if err != nil {
			return
		}
		if err := answer(conn, request); err != nil || request.closes {
			return
		}
	}
}
