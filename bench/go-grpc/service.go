package main

import (
	"context"
	"encoding/json"
	"time"

	pb "github.com/daoneill/ollama-proxy/api/gen/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type service struct {
	pb.UnimplementedComputeServiceServer
	backends *backends
	health   map[string]string // never changes, so that calls share it
}

func newService(backends *backends) *service {
	health := make(map[string]string, len(backends.all))
	for _, backend := range backends.all {
		health[backend.id] = "healthy"
	}
	return &service{backends: backends, health: health}
}

func (s *service) HealthCheck(context.Context, *pb.HealthCheckRequest) (*pb.HealthCheckResponse, error) {
	return &pb.HealthCheckResponse{Status: "healthy", BackendHealth: s.health, TimestampUnix: time.Now().Unix()}, nil
}

func (s *service) Generate(ctx context.Context, call *pb.GenerateRequest) (*pb.GenerateResponse, error) {
	start := time.Now()
	backend := s.backends.next()
	body, err := s.backends.open(ctx, backend, call, false)
	if err != nil {
		return nil, err
	}
	defer finish(body)
	var answer generateAnswer
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return nil, failure(ctx, err)
	}
	if answer.Error != "" {
		return nil, status.Error(codes.Unavailable, answer.Error)
	}
	return &pb.GenerateResponse{
		Response:    answer.Response,
		BackendUsed: backend.id,
		Routing:     &pb.RoutingMetadata{Backend: backend.id, Reason: "its turn"},
		Stats:       stats(start, start, answer.EvalCount),
	}, nil
}

func (s *service) GenerateStream(call *pb.GenerateRequest, stream pb.ComputeService_GenerateStreamServer) error {
	start := time.Now()
	ctx := stream.Context()
	backend := s.backends.next()
	body, err := s.backends.open(ctx, backend, call, true)
	if err != nil {
		return err
	}
	defer body.Close()
	var first time.Time
	lines := json.NewDecoder(body)
	// Send has encoded the message by the time it returns: one will do for all tokens.
	token := &pb.GenerateStreamResponse{BackendUsed: backend.id}
	for !token.Done {
		var answer generateAnswer
		if err := lines.Decode(&answer); err != nil {
			return failure(ctx, err)
		}
		if answer.Error != "" {
			return status.Error(codes.Unavailable, answer.Error)
		}
		if first.IsZero() {
			first = time.Now()
		}
		token.Token, token.Done = answer.Response, answer.Done
		if answer.Done {
			token.Stats = stats(start, first, answer.EvalCount)
			finish(body)
		}
		if err := stream.Send(token); err != nil {
			return err
		}
	}
	return nil
}

// stats of a whole answer, whose first token is not known, count from its arrival.
func stats(start, first time.Time, tokens int32) *pb.GenerationStats {
	took := time.Since(start)
	return &pb.GenerationStats{
		TimeToFirstTokenMs: int32(first.Sub(start).Milliseconds()),
		TotalTimeMs:        int32(took.Milliseconds()),
		TokensGenerated:    tokens,
		TokensPerSecond:    float32(float64(tokens) / took.Seconds()),
	}
}
