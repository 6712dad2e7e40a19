package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A unaryWorker sends requests over one connection, one after the other.
type unaryWorker struct {
	asked      options
	request    []byte
	client     *client
	used       bool // the connection has carried an answer
	room       []byte
	latencies  []int64
	errors     int
	firstError string
	reconnects int
}

func runUnary(asked options) report {
	workers := make([]*unaryWorker, asked.connections)
	var taken atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for index := range workers {
		worker := &unaryWorker{asked: asked, request: makeRequest(asked, false, index), room: make([]byte, 64<<10)}
		workers[index] = worker
		group.Go(func() {
			for taken.Add(1) <= int64(asked.requests) {
				worker.step()
			}
		})
	}
	group.Wait()
	return sumUnary(workers, time.Since(start))
}

func (w *unaryWorker) step() {
	began := time.Now()
	err := w.exchange()
	if err != nil && w.used {
		// The server may close an idle connection at any time: that is no error, a failure on a fresh one is.
		w.drop()
		w.reconnects++
		began = time.Now()
		err = w.exchange()
	}
	if err != nil {
		w.drop()
		w.errors++
		if w.firstError == "" {
			w.firstError = err.Error()
		}
		return
	}
	w.latencies = append(w.latencies, time.Since(began).Nanoseconds())
}

func (w *unaryWorker) exchange() error {
	if w.client == nil {
		made, err := dial(w.asked.address)
		if err != nil {
			return err
		}
		w.client = made
	}
	if err := w.client.SetDeadline(time.Now().Add(w.asked.limit)); err != nil {
		return err
	}
	if _, err := w.client.Write(w.request); err != nil {
		return err
	}
	found, err := w.client.readHead()
	if err != nil {
		return err
	}
	// From here on the server has answered: what goes wrong is an error, however old the connection.
	w.used = false
	size, err := w.readBody(found)
	if err != nil {
		return err
	}
	if found.status != 200 || !bytes.Contains(w.room[:size], []byte(marker)) {
		return fmt.Errorf("status %d: %.200q", found.status, w.room[:size])
	}
	w.used = true
	if found.closes {
		w.drop()
	}
	return nil
}

func (w *unaryWorker) readBody(found head) (int, error) {
	body := w.client.body(found)
	size := 0
	for size < len(w.room) {
		count, err := body.Read(w.room[size:])
		size += count
		if err == io.EOF {
			return size, w.client.finish(found)
		}
		if err != nil {
			return size, err
		}
	}
	return size, fmt.Errorf("answer longer than %d bytes", len(w.room))
}

func (w *unaryWorker) drop() {
	if w.client != nil {
		w.client.Close()
	}
	w.client, w.used = nil, false
}

func sumUnary(workers []*unaryWorker, took time.Duration) report {
	found := report{Seconds: took.Seconds()}
	var latencies []int64
	for _, worker := range workers {
		worker.drop()
		latencies = append(latencies, worker.latencies...)
		found.Errors += worker.errors
		found.Reconnects += worker.reconnects
		if found.FirstError == "" {
			found.FirstError = worker.firstError
		}
	}
	found.Count = len(latencies)
	found.LatencyUs = quantiles(latencies)
	return found
}
