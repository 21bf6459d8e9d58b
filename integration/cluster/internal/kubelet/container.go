package kubelet

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kthena-router/integration/cluster/internal/podlog"
	"kthena-router/integration/cluster/internal/sandbox"
)

// The pause before a restart doubles from the first to the last value; a run of
// stableAfter forgets it. It starts much smaller than the kubelet's ten seconds,
// because tests crash containers on purpose and wait for them.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
	stableAfter  = time.Minute
)

// container runs one container of a pod again and again.
type container struct {
	worker *worker
	spec   *corev1.Container
	init   bool
	// started is closed when the container is up for the first time.
	started   chan struct{}
	startOnce sync.Once

	// The rest is guarded by the worker's mutex.
	status   corev1.ContainerStatus
	attempt  *attempt
	attempts int
	log      *podlog.Log
	previous *podlog.Log
}

func newContainer(w *worker, spec *corev1.Container, init bool) *container {
	started := false
	return &container{
		worker:  w,
		spec:    spec,
		init:    init,
		started: make(chan struct{}),
		status: corev1.ContainerStatus{
			Name:    spec.Name,
			Image:   spec.Image,
			Started: &started,
			State:   waiting("ContainerCreating", ""),
		},
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// sidecar tells an init container that is meant to stay.
func (c *container) sidecar() bool {
	return c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// restarts tells whether the container is run again after it ended.
func (c *container) restarts(exitCode int32) bool {
	switch {
	case c.sidecar():
		return true
	case c.worker.spec.RestartPolicy == corev1.RestartPolicyNever:
		return false
	case c.init:
		return exitCode != 0
	default:
		return c.worker.spec.RestartPolicy == corev1.RestartPolicyAlways || exitCode != 0
	}
}

// run runs the container until it has ended for good or has to stop. It tells
// whether it ended well by itself.
func (c *container) run(stop <-chan struct{}) bool {
	backoff := firstBackoff
	for {
		begin := time.Now()
		exitCode, ran := c.once(stop)
		select {
		case <-stop:
			return false
		default:
		}
		if ran && !c.restarts(exitCode) {
			return exitCode == 0
		}
		if time.Since(begin) >= stableAfter {
			backoff = firstBackoff
		}
		if ran {
			c.event(corev1.EventTypeWarning, "BackOff", fmt.Sprintf("restarting container %s in %s", c.spec.Name, backoff))
			c.worker.change(func() {
				c.status.LastTerminationState = c.status.State
				c.status.State = waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting container %s", backoff, c.spec.Name))
				c.status.RestartCount++
			})
		}
		select {
		case <-stop:
			c.worker.change(func() {
				if last := c.status.LastTerminationState; last.Terminated != nil {
					c.status.State = last
				}
			})
			return false
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// once runs the container a single time. It returns the exit code, or false if
// it did not even start.
func (c *container) once(stop <-chan struct{}) (int32, bool) {
	a, reason, err := c.start()
	if err != nil {
		c.event(corev1.EventTypeWarning, reasonEvent(reason), err.Error())
		c.worker.change(func() { c.status.State = waiting(reason, err.Error()) })
		return 0, false
	}
	c.event(corev1.EventTypeNormal, "Started", "Started container "+c.spec.Name)
	c.running(a)
	a.supervise(stop)
	c.ended(a)
	return a.exit.ExitCode, true
}

// reasonEvent is the name of the event that goes with a reason for waiting.
func reasonEvent(reason string) string {
	if reason == "ErrImagePull" {
		return "Failed"
	}
	return reason
}

// start brings the container up; on failure it also tells the reason as the
// kubelet words it.
func (c *container) start() (*attempt, string, error) {
	w := c.worker
	if _, _, found := w.kubelet.images.Lookup(c.spec.Image); !found {
		return nil, "ErrImagePull", fmt.Errorf("image %q: no program is given for %q (--image NAME=PROGRAM; given: %s)",
			c.spec.Image, sandbox.ImageName(c.spec.Image), w.kubelet.images.Names())
	}
	spec, err := c.sandboxSpec()
	if err != nil {
		return nil, "CreateContainerConfigError", err
	}
	log, err := podlog.Create(c.logPath())
	if err != nil {
		return nil, "CreateContainerError", err
	}
	a, err := startAttempt(c, spec, log)
	if err != nil {
		log.Close()
		return nil, "RunContainerError", err
	}
	return a, "", nil
}

// logPath is laid out as on a real node.
func (c *container) logPath() string {
	w := c.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.namespace + "_" + w.name + "_" + string(w.uid)
	return filepath.Join(w.kubelet.state.PodLogs(), pod, c.spec.Name, strconv.Itoa(c.attempts)+".log")
}

// running notes a successful start; from here on probes decide.
func (c *container) running(a *attempt) {
	c.worker.change(func() {
		c.attempt = a
		c.attempts++
		c.previous, c.log = c.log, a.log
		c.status.ContainerID = fmt.Sprintf("process://%s-%d", c.worker.uid, a.pid())
		c.status.ImageID = "process://" + sandbox.ImageName(c.spec.Image)
		c.status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(a.begin)}}
	})
	if c.spec.StartupProbe == nil {
		c.up(a)
	}
}

// up notes that the container has started in the sense of the startup probe.
func (c *container) up(a *attempt) {
	c.worker.change(func() {
		if c.attempt != a {
			return
		}
		started := true
		c.status.Started = &started
		c.status.Ready = c.spec.ReadinessProbe == nil
	})
	c.startOnce.Do(func() { close(c.started) })
}

// ready notes what the readiness probe found.
func (c *container) ready(a *attempt, ready bool) {
	c.worker.change(func() {
		if c.attempt == a {
			c.status.Ready = ready
		}
	})
}

// ended notes the end of a run.
func (c *container) ended(a *attempt) {
	c.worker.change(func() {
		started := false
		c.attempt = nil
		c.status.Started = &started
		// An init container that is through counts as ready.
		c.status.Ready = c.init && a.exit.ExitCode == 0
		exit := a.exit
		exit.ContainerID = c.status.ContainerID
		c.status.State = corev1.ContainerState{Terminated: &exit}
	})
}

func (c *container) event(kind, reason, message string) {
	c.worker.kubelet.events.Event(c.worker.current(), kind, reason, message)
}

// active is the present run, if there is one.
func (c *container) active() *attempt {
	c.worker.mu.Lock()
	defer c.worker.mu.Unlock()
	return c.attempt
}
