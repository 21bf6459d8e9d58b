package podlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Options are those of the pods/log subresource.
type Options struct {
	Follow     bool
	Timestamps bool
	Previous   bool
	Since      time.Time
	// Tail is the number of last lines, LimitBytes the size at which to stop;
	// negative means everything.
	Tail       int
	LimitBytes int64
}

// ParseOptions reads the query of a log request; what it does not know, it
// ignores, like the kubelet.
func ParseOptions(query url.Values, now time.Time) (Options, error) {
	options := Options{Tail: -1, LimitBytes: -1}
	var errs []error
	options.Follow = boolean(query, "follow", &errs)
	options.Timestamps = boolean(query, "timestamps", &errs)
	options.Previous = boolean(query, "previous", &errs)
	if n := number(query, "tailLines", &errs); n >= 0 {
		options.Tail = int(n)
	}
	options.LimitBytes = number(query, "limitBytes", &errs)
	if seconds := number(query, "sinceSeconds", &errs); seconds >= 0 {
		options.Since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("sinceTime: %w", err))
		}
		options.Since = since
	}
	return options, errors.Join(errs...)
}

func boolean(query url.Values, name string, errs *[]error) bool {
	text := query.Get(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		*errs = append(*errs, fmt.Errorf("%s: %w", name, err))
	}
	return value
}

func number(query url.Values, name string, errs *[]error) int64 {
	text := query.Get(name)
	if text == "" {
		return -1
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 {
		*errs = append(*errs, fmt.Errorf("%s: not a count: %q", name, text))
	}
	return value
}

// Read writes the log to w. With Follow it goes on until the log is closed or
// the context ends.
func (l *Log) Read(ctx context.Context, w io.Writer, options Options) error {
	file, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer file.Close()
	out := &printer{w: w, options: options, left: options.LimitBytes}
	reader := bufio.NewReader(file)
	if err := skipToTail(reader, file, options); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for {
		// Asked for before reading, so that nothing is missed between an end
		// of the file and the wait.
		changed, closed := l.state()
		done, err := out.copy(reader)
		if err != nil || done || closed || !options.Follow {
			return err
		}
		if flusher, ok := w.(interface{ Flush() }); ok {
			flusher.Flush()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// skipToTail leaves the reader in front of the last lines that were asked for.
func skipToTail(reader *bufio.Reader, file *os.File, options Options) error {
	if options.Tail < 0 {
		return nil
	}
	var starts []int64
	var offset int64
	for {
		line, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		starts = append(starts, offset)
		if len(starts) > options.Tail {
			starts = starts[1:]
		}
		offset += int64(len(line))
	}
	if len(starts) > 0 {
		offset = starts[0]
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	reader.Reset(file)
	return nil
}

// printer applies the options to lines.
type printer struct {
	w       io.Writer
	options Options
	left    int64
	partial string
}

// copy writes the lines up to the present end of the file; done means that
// nothing more is wanted.
func (p *printer) copy(reader *bufio.Reader) (done bool, err error) {
	for {
		text, err := reader.ReadString('\n')
		p.partial += text
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return true, err
		}
		line := p.partial
		p.partial = ""
		if done, err := p.print(line); done || err != nil {
			return true, err
		}
	}
}

func (p *printer) print(line string) (done bool, err error) {
	stamp, text, _ := strings.Cut(line, " ")
	if !p.options.Since.IsZero() {
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err == nil && at.Before(p.options.Since) {
			return false, nil
		}
	}
	if p.options.Timestamps {
		text = line
	}
	if p.left >= 0 && int64(len(text)) >= p.left {
		text, done = text[:p.left], true
	}
	if p.left >= 0 {
		p.left -= int64(len(text))
	}
	_, err = io.WriteString(p.w, text)
	return done, err
}
