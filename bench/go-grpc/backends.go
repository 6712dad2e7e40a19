package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"

	pb "github.com/daoneill/ollama-proxy/api/gen/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// More streams than the bench opens to one backend: each may come back to the pool.
const idleConnections = 4096

type backend struct {
	id       string
	generate *url.URL
}

// backends are asked in turn, over one pool of connections.
type backends struct {
	all       []backend
	turn      atomic.Uint64
	transport *http.Transport
}

type generateRequest struct {
	Model   string           `json:"model"`
	Prompt  string           `json:"prompt"`
	Stream  bool             `json:"stream"`
	Options *generateOptions `json:"options,omitempty"`
}

type generateOptions struct {
	NumPredict  int32    `json:"num_predict,omitempty"`
	Temperature float32  `json:"temperature,omitempty"`
	TopP        float32  `json:"top_p,omitempty"`
	TopK        int32    `json:"top_k,omitempty"`
	Stop        []string `json:"stop,omitempty"`
	NumCtx      int32    `json:"num_ctx,omitempty"`
}

// generateAnswer is a whole answer or one line of a stream; encoding/json skips what is not named.
type generateAnswer struct {
	Response  string `json:"response"`
	Done      bool   `json:"done"`
	EvalCount int32  `json:"eval_count"`
	Error     string `json:"error"`
}

// Not changed by RoundTrip, so that all requests share it.
var jsonHeader = http.Header{"Content-Type": {"application/json"}}

func newBackends(addresses []string) (*backends, error) {
	found := &backends{transport: &http.Transport{
		MaxIdleConnsPerHost: idleConnections,
		DisableCompression:  true,
	}}
	for index, address := range addresses {
		generate, err := url.Parse(address + "/api/generate")
		if err != nil {
			return nil, err
		}
		found.all = append(found.all, backend{id: "mock-" + strconv.Itoa(index+1), generate: generate})
	}
	return found, nil
}

func (b *backends) next() *backend {
	return &b.all[(b.turn.Add(1)-1)%uint64(len(b.all))]
}

// open sends the call to a backend; whoever gets the answer closes it. RoundTrip, not Client.Do: there is no redirect
// to follow and no cookie to keep.
func (b *backends) open(ctx context.Context, to *backend, call *pb.GenerateRequest, stream bool) (io.ReadCloser, error) {
	body, err := json.Marshal(ollamaRequest(call, stream))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	request := (&http.Request{
		Method:        http.MethodPost,
		URL:           to.generate,
		Header:        jsonHeader,
		Body:          io.NopCloser(bytes.NewReader(body)),
		GetBody:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		ContentLength: int64(len(body)),
	}).WithContext(ctx)
	answer, err := b.transport.RoundTrip(request)
	if err != nil {
		return nil, failure(ctx, err)
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, status.Error(codes.Unavailable, to.id+": "+answer.Status)
	}
	return answer.Body, nil
}

// finish reads the end of an answer, without which its connection could not be used again.
func finish(body io.ReadCloser) {
	io.Copy(io.Discard, body)
	body.Close()
}

func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Unavailable, fmt.Sprintf("backend: %v", err))
}

func ollamaRequest(call *pb.GenerateRequest, stream bool) *generateRequest {
	request := &generateRequest{Model: call.GetModel(), Prompt: call.GetPrompt(), Stream: stream}
	if options := call.GetOptions(); options != nil {
		request.Options = &generateOptions{
			NumPredict: options.MaxTokens, Temperature: options.Temperature, TopP: options.TopP,
			TopK: options.TopK, Stop: options.Stop, NumCtx: options.ContextLength,
		}
	}
	return request
}
