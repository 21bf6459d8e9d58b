package podlog

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func testLog(t *testing.T) *Log {
	t.Helper()
	log, err := Create(filepath.Join(t.TempDir(), "c", "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func read(t *testing.T, log *Log, query string) string {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	options, err := ParseOptions(values, noon.Add(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := log.Read(t.Context(), &out, options); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRead(t *testing.T) {
	log := testLog(t)
	log.write([]byte("one\ntw"), noon)
	log.write([]byte("o\n"), noon.Add(time.Second))
	log.write([]byte("three\nunfinished"), noon.Add(2*time.Second))
	for query, want := range map[string]string{
		"":                               "one\ntwo\nthree\n",
		"tailLines=2":                    "two\nthree\n",
		"tailLines=0":                    "",
		"tailLines=9":                    "one\ntwo\nthree\n",
		"sinceTime=2026-01-01T12:00:01Z": "two\nthree\n",
		"sinceSeconds=1":                 "three\n",
		"limitBytes=5":                   "one\nt",
		"timestamps=true&tailLines=1":    "2026-01-01T12:00:02Z three\n",
		"stream=All":                     "one\ntwo\nthree\n",
	} {
		if got := read(t, log, query); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
	log.Close()
	if got := read(t, log, "tailLines=1"); got != "unfinished\n" {
		t.Errorf("after the end: got %q", got)
	}
}

func TestParseOptionsRefusesNonsense(t *testing.T) {
	for _, query := range []string{"follow=perhaps", "tailLines=-3", "sinceTime=today"} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseOptions(values, noon); err == nil {
			t.Errorf("%q is accepted", query)
		}
	}
}

func TestFollowEndsWithTheLog(t *testing.T) {
	log := testLog(t)
	pipe, err := log.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		var out strings.Builder
		_ = log.Read(context.Background(), &out, Options{Follow: true, Tail: -1, LimitBytes: -1})
		got <- out.String()
	}()
	for _, line := range []string{"a\n", "b\n"} {
		if _, err := pipe.WriteString(line); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-got:
		if text != "a\nb\n" {
			t.Errorf("got %q", text)
		}
	case <-time.After(5 * time.Second):
		t.Error("the reader does not end")
	}
}
