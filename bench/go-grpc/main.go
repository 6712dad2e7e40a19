// Go-grpc is the Go peer of the bench: compute.v1 over grpc-go in front, Ollama over net/http behind, backends in turn.
// It does what the proxy's data path must do for these calls and no more, as one would write it in Go to be fast.
package main

import (
	"flag"
	"log"
	"net"
	"strings"

	pb "github.com/daoneill/ollama-proxy/api/gen/go"
	"google.golang.org/grpc"
)

// Calls run on this many goroutines that stay: a fresh one would grow its stack again for each call.
const streamWorkers = 64

func main() {
	address := flag.String("listen", "127.0.0.1:50051", "where to serve gRPC")
	upstreams := flag.String("upstreams", "http://127.0.0.1:11434", "addresses of the Ollama servers, by comma")
	flag.Parse()
	backends, err := newBackends(strings.Split(*upstreams, ","))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.NumStreamWorkers(streamWorkers))
	pb.RegisterComputeServiceServer(server, newService(backends))
	log.Fatal(server.Serve(listener))
}
