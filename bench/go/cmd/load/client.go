package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"
)

// A client is one connection that notes when bytes last came.
type client struct {
	net.Conn
	reader *bufio.Reader
	readAt time.Time
}

type head struct {
	status  int
	length  int // -1 = until the connection closes
	chunked bool
	closes  bool
}

func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	made := &client{Conn: conn}
	made.reader = bufio.NewReaderSize(made, 16<<10)
	return made, nil
}

func (c *client) Read(into []byte) (int, error) {
	count, err := c.Conn.Read(into)
	c.readAt = time.Now()
	return count, err
}

func (c *client) readHead() (head, error) {
	found := head{length: -1}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return found, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return found, fmt.Errorf("no status line: %.40q", line)
	}
	found.closes = line[7] == '0'
	if found.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return found, err
	}
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return found, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return found, nil
		}
		found.note(line)
	}
}

func (h *head) note(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		if length, err := strconv.Atoi(string(value)); err == nil {
			h.length = length
		}
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		h.chunked = true
	case bytes.EqualFold(name, []byte("Connection")):
		h.closes = bytes.EqualFold(value, []byte("close"))
	}
}

// body reads to where the framing says the body ends; finish then makes sure that it did.
func (c *client) body(found head) io.Reader {
	switch {
	case found.chunked:
		return httputil.NewChunkedReader(c.reader)
	case found.length >= 0:
		return &exactReader{c.reader, found.length}
	}
	return c.reader
}

func (c *client) finish(found head) error {
	if !found.chunked {
		return nil
	}
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("behind the last chunk: %w", err)
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return nil
		}
	}
}

// An exactReader takes an early end for the fault it is.
type exactReader struct {
	reader io.Reader
	left   int
}

func (e *exactReader) Read(into []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	count, err := e.reader.Read(into[:min(len(into), e.left)])
	e.left -= count
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return count, err
}
