package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A tally is what all streams share.
type tally struct {
	chunks  atomic.Int64
	waiting atomic.Int64 // streams that have neither a token nor failed
	open    sync.Once
	closing sync.Once
	output  sync.Mutex
}

type streamResult struct {
	err      error
	ttftNs   int64
	delaysNs []int64
}

type event struct {
	Event  string `json:"event"`
	Chunks int64  `json:"chunks"`
}

func (t *tally) tell(name string) {
	t.output.Lock()
	defer t.output.Unlock()
	print(event{name, t.chunks.Load()})
}

func (t *tally) arrived() {
	if t.waiting.Add(-1) == 0 {
		t.open.Do(func() { t.tell("open") })
	}
}

func (t *tally) answerMarks() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		t.tell("mark")
	}
}

func runStreams(asked options) report {
	shared := &tally{}
	shared.waiting.Store(int64(asked.streams))
	go shared.answerMarks()
	results := make([]streamResult, asked.streams)
	request := makeRequest(asked, true, 0)
	var group sync.WaitGroup
	start := time.Now()
	for index := range results {
		time.Sleep(time.Until(start.Add(asked.ramp * time.Duration(index) / time.Duration(asked.streams))))
		group.Go(func() { results[index].run(asked, request, shared) })
	}
	group.Wait()
	return sumStreams(results, shared, time.Since(start))
}

func (r *streamResult) run(asked options, request []byte, shared *tally) {
	r.delaysNs = make([]int64, 0, 256)
	r.err = r.exchange(asked, request, shared)
	if len(r.delaysNs) == 0 {
		shared.arrived()
	}
	// One that breaks off also ends the stretch in which all are open.
	shared.closing.Do(func() { shared.tell("closing") })
}

func (r *streamResult) exchange(asked options, request []byte, shared *tally) error {
	client, err := dial(asked.address)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(asked.limit)); err != nil {
		return err
	}
	began := time.Now()
	if _, err := client.Write(request); err != nil {
		return err
	}
	found, err := client.readHead()
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(client.body(found), 4<<10)
	if found.status != 200 {
		text, _ := io.ReadAll(io.LimitReader(lines, 200))
		return fmt.Errorf("status %d: %q", found.status, text)
	}
	if err := r.readLines(asked, lines, client, began, shared); err != nil {
		return err
	}
	return client.finish(found)
}

// readLines wants tokens, an end that says so, the dialect's last marker, and nothing cut short.
func (r *streamResult) readLines(asked options, lines *bufio.Reader, client *client, began time.Time, shared *tally) error {
	ended, last := false, []byte(nil)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if stamp := findStamp(line); stamp > 0 {
			r.note(client.readAt, stamp, began, shared)
		}
		if asked.native && bytes.Contains(line, []byte(upstreamId)) {
			return fmt.Errorf("passed on, not translated: %.100q", line)
		}
		if bytes.Contains(line, []byte(`"error"`)) {
			return fmt.Errorf("error within the stream: %.200q", line)
		}
		ended = ended || bytes.Contains(line, []byte(`"finish_reason":"stop"`)) || bytes.Contains(line, []byte(`"finish_reason": "stop"`))
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 {
			last = append(last[:0], trimmed...)
		}
	}
	if bytes.Contains(last, []byte(`"done":true`)) || ended && bytes.Equal(last, []byte("data: [DONE]")) {
		return nil
	}
	return fmt.Errorf("no end marker after %d tokens; last line %.100q", len(r.delaysNs), last)
}

func (r *streamResult) note(at time.Time, stampNs int64, began time.Time, shared *tally) {
	shared.chunks.Add(1)
	if len(r.delaysNs) == 0 {
		r.ttftNs = at.Sub(began).Nanoseconds()
		shared.arrived()
	}
	r.delaysNs = append(r.delaysNs, at.UnixNano()-stampNs)
}

// findStamp is the time that the mock wrote into a token, in nanoseconds since 1970; 0 when there is none.
func findStamp(line []byte) int64 {
	_, after, found := bytes.Cut(line, []byte(`"t=`))
	if !found {
		return 0
	}
	digits, _, found := bytes.Cut(after, []byte(" "))
	if !found {
		return 0
	}
	stamp, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return stamp
}

func sumStreams(results []streamResult, shared *tally, took time.Duration) report {
	found := report{Seconds: took.Seconds(), Chunks: shared.chunks.Load()}
	var ttfts, delays []int64
	for _, result := range results {
		if result.err != nil {
			found.Errors++
			if found.FirstError == "" {
				found.FirstError = result.err.Error()
			}
			continue
		}
		found.Count++
		ttfts = append(ttfts, result.ttftNs)
		delays = append(delays, result.delaysNs...)
	}
	found.TtftUs, found.ChunkDelayUs = quantiles(ttfts), quantiles(delays)
	return found
}
