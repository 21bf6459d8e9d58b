// Package control is the HTTP interface through which tests disturb the cluster.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kthena-router/integration/cluster/internal/process"
	"kthena-router/integration/cluster/internal/topology"
)

// Plane is what the interface needs of the control plane.
type Plane interface {
	StartAPIServer(ctx context.Context, port int) error
	KillAPIServer(port int) error
	Compact(ctx context.Context) (int64, error)
	Processes() []*process.Process
}

// Pods is what it needs of the kubelet.
type Pods interface {
	SignalContainer(namespace, pod, container string, signal syscall.Signal) error
	Partition(namespace, pod string, on bool) error
	AnyIP(namespace, pod, cidr string) error
	Usages() []process.Usage
}

// Control serves the interface.
type Control struct {
	plane Plane
	pods  Pods
}

// Serve opens the interface and returns; it is closed with the context.
func Serve(ctx context.Context, plane Plane, pods Pods, logger *log.Logger) error {
	listener, err := net.Listen("tcp", topology.ControlAddress)
	if err != nil {
		return fmt.Errorf("open control interface: %w", err)
	}
	server := &http.Server{
		Handler:           New(plane, pods),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          logger,
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Printf("control interface: %v", err)
		}
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// New makes the handler.
func New(plane Plane, pods Pods) http.Handler {
	c := &Control{plane: plane, pods: pods}
	mux := http.NewServeMux()
	mux.Handle("POST /apiserver/kill", action(c.killAPIServer))
	mux.Handle("POST /apiserver/start", action(c.startAPIServer))
	mux.Handle("POST /etcd/compact", action(c.compact))
	mux.Handle("POST /pods/{namespace}/{name}/kill", action(c.killContainer))
	mux.Handle("POST /pods/{namespace}/{name}/partition", action(c.partition))
	mux.Handle("POST /pods/{namespace}/{name}/anyip", action(c.anyIP))
	mux.Handle("GET /processes", action(c.processes))
	return mux
}

// action does what a request asks for and returns what to answer.
type action func(*http.Request) (any, error)

// badRequest marks errors that are the caller's.
type badRequest struct{ error }

// ServeHTTP answers with JSON, or with the error as text.
func (a action) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	answer, err := a(request)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.As(err, &badRequest{}) {
			status = http.StatusBadRequest
		}
		http.Error(response, err.Error(), status)
		return
	}
	if answer == nil {
		answer = struct{}{}
	}
	response.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(response).Encode(answer) // fails if the client has gone
}

func (c *Control) killAPIServer(request *http.Request) (any, error) {
	port, err := portOf(request)
	if err != nil {
		return nil, err
	}
	return nil, c.plane.KillAPIServer(port)
}

// startAPIServer goes on when the client gives up, so that the state of the
// server never depends on a client's patience.
func (c *Control) startAPIServer(request *http.Request) (any, error) {
	port, err := portOf(request)
	if err != nil {
		return nil, err
	}
	return nil, c.plane.StartAPIServer(context.WithoutCancel(request.Context()), port)
}

func (c *Control) compact(request *http.Request) (any, error) {
	revision, err := c.plane.Compact(request.Context())
	return map[string]int64{"revision": revision}, err
}

func (c *Control) killContainer(request *http.Request) (any, error) {
	signal, err := signalOf(request.FormValue("signal"))
	if err != nil {
		return nil, err
	}
	return nil, c.pods.SignalContainer(request.PathValue("namespace"), request.PathValue("name"), request.FormValue("container"), signal)
}

func (c *Control) partition(request *http.Request) (any, error) {
	on, err := strconv.ParseBool(request.FormValue("on"))
	if err != nil {
		return nil, badRequest{fmt.Errorf("on=%q: want true or false", request.FormValue("on"))}
	}
	return nil, c.pods.Partition(request.PathValue("namespace"), request.PathValue("name"), on)
}

func (c *Control) anyIP(request *http.Request) (any, error) {
	cidr := request.FormValue("cidr")
	if _, _, err := net.ParseCIDR(cidr); err != nil {
		return nil, badRequest{fmt.Errorf("cidr: %w", err)}
	}
	return nil, c.pods.AnyIP(request.PathValue("namespace"), request.PathValue("name"), cidr)
}

func (c *Control) processes(*http.Request) (any, error) {
	usages := []process.Usage{}
	for _, p := range c.plane.Processes() {
		usage, err := process.UsageOf(p.Name, p.Pid())
		if err == nil { // it may just have ended
			usages = append(usages, usage)
		}
	}
	return append(usages, c.pods.Usages()...), nil
}

func portOf(request *http.Request) (int, error) {
	text := request.FormValue("port")
	if text == "" {
		return topology.APIServerPort, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, badRequest{fmt.Errorf("port=%q: not a port", text)}
	}
	return int(port), nil
}

// signalOf reads a signal's name, with or without SIG, or number.
func signalOf(text string) (syscall.Signal, error) {
	if text == "" {
		return syscall.SIGKILL, nil
	}
	if number, err := strconv.Atoi(text); err == nil && number > 0 && number < 65 {
		return syscall.Signal(number), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	return 0, badRequest{fmt.Errorf("signal=%q: not a signal", text)}
}
