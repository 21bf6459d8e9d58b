// Package podlog keeps the output of containers, line by line with the time of
// each, and serves it as the kubelet does.
package podlog

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// maxLine bounds the memory for output without line ends.
	maxLine   = 256 << 10
	chunkSize = 64 << 10
)

// Log is the output of one run of a container.
type Log struct {
	path string

	mu      sync.Mutex
	file    *os.File
	partial []byte
	changed chan struct{}
	closed  bool
	done    chan struct{}
}

// Create makes the file of a log.
func Create(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	return &Log{path: path, file: file, changed: make(chan struct{}), done: make(chan struct{})}, nil
}

// Pipe returns a file for a program to write to. It has to be closed by the
// caller once the program has it. The log is closed when the program, and
// whoever inherited the file, has closed it.
func (l *Log) Pipe() (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	go func() {
		defer reader.Close()
		l.collect(reader)
		l.Close()
	}()
	return writer, nil
}

func (l *Log) collect(reader io.Reader) {
	chunk := make([]byte, chunkSize)
	for {
		n, err := reader.Read(chunk)
		l.write(chunk[:n], time.Now())
		if err != nil {
			return
		}
	}
}

// write adds output that was read at the given time.
func (l *Log) write(text []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	stamp := []byte(now.UTC().Format(time.RFC3339Nano) + " ")
	var out []byte
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		l.partial = append(l.partial, line...)
		text = rest
		if ended || len(l.partial) >= maxLine {
			out = append(append(append(out, stamp...), l.partial...), '\n')
			l.partial = l.partial[:0]
		}
	}
	l.append(out)
}

// Close ends the log; readers that follow it come to an end.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.partial) > 0 {
		stamp := time.Now().UTC().Format(time.RFC3339Nano) + " "
		l.append([]byte(stamp + string(l.partial) + "\n"))
	}
	l.closed = true
	l.file.Close()
	close(l.changed)
	close(l.done)
}

// Done is closed when everything that will ever be in the log is in it.
func (l *Log) Done() <-chan struct{} { return l.done }

func (l *Log) append(out []byte) {
	if len(out) == 0 {
		return
	}
	// A full disk must not end the cluster; the reader sees what there is.
	_, _ = l.file.Write(out)
	close(l.changed)
	l.changed = make(chan struct{})
}

// state returns what tells a reader of further output and of the end.
func (l *Log) state() (changed <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.closed
}

// Path is the file of the log.
func (l *Log) Path() string { return l.path }
