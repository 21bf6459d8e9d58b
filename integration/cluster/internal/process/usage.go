package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is the unit of CPU times in /proc, which is fixed for user
// space on every architecture that Linux runs on today.
const ticksPerSecond = 100

// Usage is what a process consumes.
type Usage struct {
	Name       string  `json:"name"`
	PID        int     `json:"pid"`
	RSSBytes   int64   `json:"rssBytes"`
	CPUSeconds float64 `json:"cpuSeconds"`
}

// UsageOf reads the consumption of a process from /proc.
func UsageOf(name string, pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", name, err)
	}
	u, err := parseStat(string(stat), int64(os.Getpagesize()))
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s (pid %d): %w", name, pid, err)
	}
	u.Name, u.PID = name, pid
	return u, nil
}

// parseStat reads the times (fields 14 and 15) and the resident pages (field
// 24). The second field, the command, may contain anything, so counting starts
// behind its closing parenthesis.
func parseStat(stat string, pageSize int64) (Usage, error) {
	_, rest, found := strings.Cut(stat[strings.LastIndexByte(stat, ')')+1:], " ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 22 {
		return Usage{}, fmt.Errorf("unexpected stat line %q", stat)
	}
	var values [3]int64
	for i, field := range []string{fields[11], fields[12], fields[21]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("unexpected stat line %q: %w", stat, err)
		}
		values[i] = n
	}
	return Usage{
		CPUSeconds: float64(values[0]+values[1]) / ticksPerSecond,
		RSSBytes:   values[2] * pageSize,
	}, nil
}
