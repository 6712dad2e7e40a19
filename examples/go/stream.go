// Stream tokens over gRPC and stop when enough has come.
//
//	go run ./examples/go [-addr localhost:50051]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"time"

	pb "github.com/daoneill/ollama-proxy/api/gen/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	addr := flag.String("addr", "localhost:50051", "the proxy's gRPC port")
	flag.Parse()

	conn, err := grpc.NewClient(*addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := pb.NewComputeServiceClient(conn)

	// The deadline travels with the call: the proxy stops the backend when it has passed.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	stream, err := client.GenerateStream(ctx, &pb.GenerateRequest{
		Model:       "qwen2.5:0.5b",
		Prompt:      "Why is the sky blue?",
		Options:     &pb.GenerationOptions{MaxTokens: 40},
		Annotations: &pb.JobAnnotations{MaxPowerWatts: 20},
	})
	if err != nil {
		log.Fatal(err)
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(part.Token)
		if part.Done {
			fmt.Printf("\n%d tokens from %s\n", part.Stats.TokensGenerated, part.BackendUsed)
		}
	}

	// Leaving early is as good as reading to the end: the backend is free again at once.
	enough, stop := context.WithCancel(ctx)
	long, err := client.GenerateStream(enough, &pb.GenerateRequest{
		Model:   "qwen2.5:0.5b",
		Prompt:  "Count.",
		Options: &pb.GenerationOptions{MaxTokens: 4000},
	})
	if err == nil {
		_, err = long.Recv()
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Stopped after one token")
}
