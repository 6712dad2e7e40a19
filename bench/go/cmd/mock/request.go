package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
)

const bodyLimit = 1 << 20

var errTooLarge = errors.New("body too large")

type request struct {
	method, path, query string
	body                []byte
	closes              bool
}

// streams says whether the answer is to come piece by piece; Ollama's default is yes, OpenAI's is no.
func (r *request) streams(byDefault bool) bool {
	at := bytes.Index(r.body, []byte(`"stream":`))
	if at < 0 {
		return byDefault
	}
	return bytes.HasPrefix(bytes.TrimLeft(r.body[at+len(`"stream":`):], " "), []byte("true"))
}

func (r *request) wantsUsage() bool {
	return bytes.Contains(r.body, []byte(`"include_usage"`))
}

func readRequest(reader *bufio.Reader, conn net.Conn) (*request, error) {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	words := bytes.Fields(line)
	if len(words) != 3 {
		return nil, errors.New("bad request line")
	}
	path, query, _ := bytes.Cut(words[1], []byte("?"))
	found := &request{method: string(words[0]), path: string(path), query: string(query)}
	found.closes = string(words[2]) == "HTTP/1.0"
	length, chunked, err := readFields(reader, conn, found)
	if err != nil {
		return nil, err
	}
	if chunked {
		found.body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(reader), bodyLimit))
		if err == nil {
			_, err = reader.ReadSlice('\n') // the empty line behind the last chunk
		}
		return found, err
	}
	if length > bodyLimit {
		return nil, errTooLarge
	}
	found.body = make([]byte, length)
	_, err = io.ReadFull(reader, found.body)
	return found, err
}

func readFields(reader *bufio.Reader, conn net.Conn, found *request) (length int, chunked bool, err error) {
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, chunked, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(value))
			if err != nil || length < 0 {
				return 0, false, errors.New("bad length")
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("Connection")):
			found.closes = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Expect")):
			if _, err := conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
				return 0, false, err
			}
		}
	}
}
