package main

import (
	"context"
	"fmt"
	"log"

	pb "github.com/daoneill/ollama-proxy/api/gen/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	// Connect to proxy
	conn, err := grpc.Dial("localhost:50051", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatalf("Failed to connect: %v", err)
	}
	defer conn.Close()

	client := pb.NewComputeServiceClient(conn)
	ctx := context.Background()

	// Example 1: Auto-routing (balanced)
	fmt.Println("=== Auto-routing ===")
	resp, err := client.Generate(ctx, &pb.GenerateRequest{
		Prompt: "What is quantum computing?",
		Model:  "qwen2.5:0.5b",
	})
	if err != nil {
		log.Fatalf("Generate failed: %v", err)
	}
	fmt.Printf("Backend used: %s\n", resp.BackendUsed)
	fmt.Printf("Reason: %s\n", resp.Routing.Reason)
	fmt.Printf("Response: %s\n\n", resp.Response)

	// Example 2: Power-efficient (NPU)
	fmt.Println("=== Power-efficient ===")
	resp, err = client.Generate(ctx, &pb.GenerateRequest{
		Prompt: "Hello, world!",
		Model:  "qwen2.5:0.5b",
		Annotations: &pb.JobAnnotations{
			PreferPowerEfficiency: true,
		},
	})
	if err != nil {
		log.Fatalf("Generate failed: %v", err)
	}
	fmt.Printf("Backend used: %s (%.1fW)\n", resp.BackendUsed, resp.Routing.EstimatedPowerWatts)
	fmt.Printf("Response: %s\n\n", resp.Response)

	// Example 3: Latency-critical (NVIDIA)
	fmt.Println("=== Latency-critical ===")
	resp, err = client.Generate(ctx, &pb.GenerateRequest{
		Prompt: "Quick answer needed",
		Model:  "qwen2.5:0.5b",
		Annotations: &pb.JobAnnotations{
			LatencyCritical: true,
		},
	})
	if err != nil {
		log.Fatalf("Generate failed: %v", err)
	}
	fmt.Printf("Backend used: %s (%dms estimated latency)\n", resp.BackendUsed, resp.Routing.EstimatedLatencyMs)
	fmt.Printf("Speed: %.1f tok/s\n", resp.Stats.TokensPerSecond)
	fmt.Printf("Energy used: %.3f Wh\n", resp.Stats.EnergyWh)
}
