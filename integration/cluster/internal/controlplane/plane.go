// Package controlplane runs etcd, kube-apiserver and the controllers as child
// processes, so that a test can kill and restart each of them as in real life.
package controlplane

import (
	"context"
	"fmt"
	"os"
	"sync"

	"kthena-router/integration/cluster/internal/process"
	"kthena-router/integration/cluster/internal/topology"
)

// Names of the hidden subcommands and of the processes in messages and logs.
const (
	EtcdCommand        = "etcd"
	APIServerCommand   = "kube-apiserver"
	ControllersCommand = "kube-controller-manager"
)

// Plane is the running control plane.
type Plane struct {
	state topology.State

	// mu serialises starts and kills, which are rare and must not overlap.
	mu          sync.Mutex
	etcd        *process.Process
	controllers *process.Process
	apiServers  map[int]*process.Process
	failures    chan error
}

// Prepare writes keys and kubeconfig; nothing runs yet.
func Prepare(state topology.State) (*Plane, error) {
	if err := writePKI(state); err != nil {
		return nil, err
	}
	if err := writeKubeconfig(state); err != nil {
		return nil, err
	}
	if err := os.WriteFile(state.PKI("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("write audit policy: %w", err)
	}
	return &Plane{state: state, apiServers: map[int]*process.Process{}, failures: make(chan error, 8)}, nil
}

// Start brings everything up and returns when the API server is ready.
func (p *Plane) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.etcd, err = p.spawn(EtcdCommand, EtcdCommand, string(p.state)); err != nil {
		return err
	}
	if err := p.startAPIServer(ctx, topology.APIServerPort); err != nil {
		// An API server without etcd only says that it cannot reach it.
		if p.etcd.Running() {
			return err
		}
		return p.etcd.Failure()
	}
	return p.startControllers()
}

// Failures delivers the ends that nobody asked for.
func (p *Plane) Failures() <-chan error { return p.failures }

// StartAPIServer starts an API server on the port and waits until it is ready.
// After an outage of the main one the controllers are started anew: their
// informers would otherwise wait out a back-off of up to a minute, and a real
// controller manager, too, ends and starts again when it loses its lease.
func (p *Plane) StartAPIServer(ctx context.Context, port int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if server := p.apiServers[port]; server != nil && server.Running() {
		return fmt.Errorf("%s is already running", server.Name)
	}
	if err := p.startAPIServer(ctx, port); err != nil {
		return err
	}
	if port != topology.APIServerPort {
		return nil
	}
	if err := p.controllers.Kill(); err != nil {
		return err
	}
	return p.startControllers()
}

// KillAPIServer ends the API server on the port without warning.
func (p *Plane) KillAPIServer(port int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	server := p.apiServers[port]
	if server == nil || !server.Running() {
		return fmt.Errorf("no API server is running on port %d", port)
	}
	return server.Kill()
}

// Compact compacts etcd to its current revision and returns that.
func (p *Plane) Compact(ctx context.Context) (int64, error) {
	return compactEtcd(ctx)
}

// Processes lists what runs.
func (p *Plane) Processes() []*process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []*process.Process{p.etcd, p.controllers}
	for _, server := range p.apiServers {
		all = append(all, server)
	}
	var running []*process.Process
	for _, proc := range all {
		if proc != nil && proc.Running() {
			running = append(running, proc)
		}
	}
	return running
}

func (p *Plane) startAPIServer(ctx context.Context, port int) error {
	name := APIServerCommand
	if port != topology.APIServerPort {
		name = fmt.Sprintf("%s-%d", APIServerCommand, port)
	}
	args := append([]string{APIServerCommand}, apiServerFlags(p.state, port)...)
	server, err := p.spawn(name, args...)
	if err != nil {
		return err
	}
	p.apiServers[port] = server
	return waitReady(ctx, p.state, port, server)
}

func (p *Plane) startControllers() error {
	var err error
	p.controllers, err = p.spawn(ControllersCommand, ControllersCommand, string(p.state))
	return err
}

// spawn starts a child and reports its end unless it was killed on purpose.
func (p *Plane) spawn(name string, args ...string) (*process.Process, error) {
	child, err := process.StartSelf(name, p.state.Log(name), args...)
	if err != nil {
		return nil, err
	}
	go func() {
		<-child.Done()
		if err := child.Failure(); err != nil {
			p.failures <- err
		}
	}()
	return child, nil
}
