package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kthena-router/integration/cluster/internal/podlog"
	"kthena-router/integration/cluster/internal/process"
	"kthena-router/integration/cluster/internal/sandbox"
)

// crashLines is how much of its output a failed container shows in its status.
const crashLines = 5

// logDrain bounds the wait for output that somebody holds open.
const logDrain = time.Second

// attempt is one run of a container.
type attempt struct {
	container *container
	spec      sandbox.Spec
	cmd       *exec.Cmd
	log       *podlog.Log
	begin     time.Time
	// done is closed when the program has ended; exit is set before.
	done chan struct{}
	exit corev1.ContainerStateTerminated

	// condemned is closed when a probe wants the container restarted.
	condemned   chan struct{}
	condemnOnce sync.Once
}

func startAttempt(c *container, spec sandbox.Spec, log *podlog.Log) (*attempt, error) {
	out, err := log.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	spec.Stdout, spec.Stderr = out, out
	if err := os.MkdirAll(spec.Root, 0o755); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	cmd, err := sandbox.Start(spec)
	if err != nil {
		return nil, err
	}
	a := &attempt{
		container: c,
		spec:      spec,
		cmd:       cmd,
		log:       log,
		begin:     time.Now(),
		done:      make(chan struct{}),
		condemned: make(chan struct{}),
	}
	go a.wait()
	return a, nil
}

func (a *attempt) pid() int { return a.cmd.Process.Pid }

// wait collects the exit code and ends whatever the program left behind, as the
// end of a container does.
func (a *attempt) wait() {
	err := a.cmd.Wait()
	_ = syscall.Kill(-a.pid(), syscall.SIGKILL) // fails if nothing is left
	a.exit = corev1.ContainerStateTerminated{
		StartedAt:  metav1.NewTime(a.begin),
		FinishedAt: metav1.Now(),
		Reason:     "Completed",
	}
	if err != nil {
		a.exit.Reason = "Error"
		a.exit.ExitCode = exitCode(err)
		a.exit.Signal = exitSignal(err)
		// The last words are still on their way through the pipe.
		select {
		case <-a.log.Done():
		case <-time.After(logDrain):
		}
		a.exit.Message = process.Tail(a.log.Path(), crashLines)
	}
	close(a.done)
}

func exitCode(err error) int32 {
	if signal := exitSignal(err); signal != 0 {
		return 128 + signal
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return int32(exit.ExitCode())
	}
	return 128
}

func exitSignal(err error) int32 {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return int32(status.Signal())
		}
	}
	return 0
}

// supervise probes the container until it ends by itself, because it has to
// stop, or because a probe condemned it.
func (a *attempt) supervise(stop <-chan struct{}) {
	w := a.container.worker
	probing, end := context.WithCancel(w.ctx)
	probes := a.startProbes(probing)
	select {
	case <-a.done:
	case <-a.condemned:
		a.container.event(corev1.EventTypeNormal, "Killing", "Restarting container "+a.container.spec.Name+": its probe failed")
		a.terminate(w.grace(), false)
	case <-w.ctx.Done():
		a.kill()
	case <-stop:
		a.container.event(corev1.EventTypeNormal, "Killing", "Stopping container "+a.container.spec.Name)
		a.terminate(w.grace(), true)
	}
	end()
	probes.Wait()
}

// condemn has the container restarted.
func (a *attempt) condemn() { a.condemnOnce.Do(func() { close(a.condemned) }) }

// terminate ends the program: the hook, the signal, the wait, the kill. All of
// it happens within the grace period, which ends early when the pod is removed
// by force.
func (a *attempt) terminate(grace time.Duration, hook bool) {
	w := a.container.worker
	ctx, cancel := context.WithTimeout(w.ctx, grace)
	defer cancel()
	if lifecycle := a.container.spec.Lifecycle; hook && lifecycle != nil && lifecycle.PreStop != nil {
		if err := a.preStop(ctx, lifecycle.PreStop); err != nil {
			a.container.event(corev1.EventTypeWarning, "FailedPreStopHook", err.Error())
		}
	}
	if err := a.signal(syscall.SIGTERM); err != nil {
		w.kubelet.log.Printf("pod %s/%s, container %s: %v", w.namespace, w.name, a.container.spec.Name, err)
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		a.kill()
	}
}

// kill ends the program and its children at once.
func (a *attempt) kill() {
	_ = syscall.Kill(-a.pid(), syscall.SIGKILL) // fails if it has just ended
	<-a.done
}

// signal reaches the program itself and not its children, as in a container.
func (a *attempt) signal(signal syscall.Signal) error {
	err := a.cmd.Process.Signal(signal)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to pid %d: %w", signal, a.pid(), err)
	}
	return nil
}

// preStop runs the hook that precedes the signal.
func (a *attempt) preStop(ctx context.Context, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Sleep != nil:
		select {
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
		case <-a.done:
		case <-ctx.Done():
		}
		return nil
	case hook.Exec != nil:
		if _, err := a.exec(ctx, hook.Exec.Command); err != nil {
			return fmt.Errorf("preStop hook %q: %w", hook.Exec.Command, err)
		}
		return nil
	case hook.HTTPGet != nil:
		ok, message := a.probeHTTP(hook.HTTPGet, time.Minute)
		if !ok {
			return fmt.Errorf("preStop hook: %s", message)
		}
		return nil
	default:
		return errors.New("preStop hook: only sleep, exec and httpGet are supported")
	}
}

// exec runs a command in the container and returns what it printed.
func (a *attempt) exec(ctx context.Context, command []string) (string, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer reader.Close()
	spec := a.spec
	spec.Argv, spec.Stdout, spec.Stderr = command, writer, writer
	cmd, err := sandbox.Exec(a.pid(), spec)
	writer.Close()
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	output := readSome(reader)
	if err := cmd.Wait(); err != nil {
		return output, fmt.Errorf("%w: %s", err, output)
	}
	return output, nil
}
