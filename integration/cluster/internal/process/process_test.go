package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	stat := "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 100 999 10 18446744073709551615 1"
	usage, err := parseStat(stat, 4096)
	if err != nil || usage.CPUSeconds != 3 || usage.RSSBytes != 40960 {
		t.Errorf("got %+v, error %v", usage, err)
	}
	if _, err := parseStat("nonsense", 4096); err == nil {
		t.Error("nonsense is accepted")
	}
	if usage, err := UsageOf("self", os.Getpid()); err != nil || usage.RSSBytes == 0 {
		t.Errorf("own usage: %+v, error %v", usage, err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := Tail(path, 2); !strings.Contains(got, "no such file") {
		t.Errorf("absent: %q", got)
	}
	long := strings.Repeat("x", tailBytes) + "\nlast but one\nlast\n"
	for text, want := range map[string]string{"": "(empty)", "one\n": "one", "a\nb\nc\n": "b\nc", long: "last but one\nlast"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Tail(path, 2); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
