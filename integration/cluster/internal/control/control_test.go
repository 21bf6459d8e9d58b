package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"kthena-router/integration/cluster/internal/process"
)

// recorder notes what it is told to do.
type recorder struct{ last string }

func (r *recorder) note(format string, args ...any) error {
	r.last = fmt.Sprintf(format, args...)
	return nil
}

func (r *recorder) StartAPIServer(_ context.Context, port int) error { return r.note("start %d", port) }
func (r *recorder) KillAPIServer(port int) error                     { return r.note("kill %d", port) }
func (r *recorder) Compact(context.Context) (int64, error)           { return 42, r.note("compact") }
func (r *recorder) Processes() []*process.Process                    { return nil }
func (r *recorder) Usages() []process.Usage                          { return []process.Usage{{Name: "ns/p/c", PID: 7}} }
func (r *recorder) Partition(ns, pod string, on bool) error {
	return r.note("partition %s %s %v", ns, pod, on)
}
func (r *recorder) AnyIP(ns, pod, cidr string) error { return r.note("anyip %s %s %s", ns, pod, cidr) }
func (r *recorder) SignalContainer(ns, pod, container string, s syscall.Signal) error {
	if pod == "absent" {
		return errors.New("there is no pod")
	}
	return r.note("signal %s %s %q %d", ns, pod, container, s)
}

func TestRequests(t *testing.T) {
	tests := []struct {
		request string
		status  int
		want    string // the action or, for GET and errors, part of the answer
	}{
		{"POST /apiserver/kill", 200, "kill 6443"},
		{"POST /apiserver/kill?port=6444", 200, "kill 6444"},
		{"POST /apiserver/start", 200, "start 6443"},
		{"POST /apiserver/start?port=70000", 400, "not a port"},
		{"POST /etcd/compact", 200, "compact"},
		{"POST /pods/ns/p/kill", 200, `signal ns p "" 9`},
		{"POST /pods/ns/p/kill?container=c&signal=TERM", 200, `signal ns p "c" 15`},
		{"POST /pods/ns/p/kill?signal=sigstop", 200, `signal ns p "" 19`},
		{"POST /pods/ns/p/kill?signal=FOO", 400, "not a signal"},
		{"POST /pods/ns/absent/kill", 500, "there is no pod"},
		{"POST /pods/ns/p/partition?on=true", 200, "partition ns p true"},
		{"POST /pods/ns/p/partition", 400, "want true or false"},
		{"POST /pods/ns/p/anyip?cidr=10.245.0.0/16", 200, "anyip ns p 10.245.0.0/16"},
		{"POST /pods/ns/p/anyip?cidr=10.245.0.0", 400, "cidr"},
		{"GET /processes", 200, `"name":"ns/p/c"`},
		{"GET /apiserver/kill", 405, ""},
	}
	for _, test := range tests {
		r := &recorder{}
		method, target, _ := strings.Cut(test.request, " ")
		response := httptest.NewRecorder()
		New(r, r).ServeHTTP(response, httptest.NewRequest(method, target, http.NoBody))
		if response.Code != test.status {
			t.Errorf("%s: status %d, want %d", test.request, response.Code, test.status)
		}
		got := r.last
		if got == "" {
			got = response.Body.String()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.request, got, test.want)
		}
	}
}
