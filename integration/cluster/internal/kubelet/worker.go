package kubelet

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kthena-router/integration/cluster/internal/network"
	"kthena-router/integration/cluster/internal/resolve"
	"kthena-router/integration/cluster/internal/topology"
)

// setupRetry is how soon a pod whose volumes cannot be made is tried again if
// no change of a Secret or ConfigMap is noticed earlier.
const setupRetry = time.Second

// worker runs one pod from its binding to its deletion.
type worker struct {
	kubelet   *Kubelet
	namespace string
	name      string
	uid       types.UID
	// spec never changes: what the API server lets users change of a running
	// pod is not supported.
	spec *corev1.PodSpec

	// ctx ends with the pod's deletion from the API server; stopping is closed
	// when it starts to terminate.
	ctx      context.Context
	cancel   context.CancelFunc
	stopping chan struct{}
	stopOnce sync.Once
	// dirty asks for a status write, stale for a look at the volumes.
	dirty chan struct{}
	stale chan struct{}

	init       []*container
	containers []*container
	tokens     tokenCache

	mu      sync.Mutex
	pod     *corev1.Pod
	net     *network.Pod
	started time.Time
	// initialized tells that all init containers are through.
	initialized bool
	// terminated tells that all containers have ended for good.
	terminated bool
	// written is the status that the API server has.
	written *corev1.PodStatus
}

func newWorker(k *Kubelet, pod *corev1.Pod) *worker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{
		kubelet:   k,
		namespace: pod.Namespace,
		name:      pod.Name,
		uid:       pod.UID,
		spec:      &pod.Spec,
		ctx:       ctx,
		cancel:    cancel,
		stopping:  make(chan struct{}),
		dirty:     make(chan struct{}, 1),
		stale:     make(chan struct{}, 1),
		pod:       pod,
		started:   time.Now(),
	}
	for i := range pod.Spec.InitContainers {
		w.init = append(w.init, newContainer(w, &pod.Spec.InitContainers[i], true))
	}
	for i := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, &pod.Spec.Containers[i], false))
	}
	return w
}

// update takes in a new state of the pod.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	if pod.DeletionTimestamp != nil {
		w.stopOnce.Do(func() { close(w.stopping) })
	}
	// Labels and annotations may be in volumes, conditions of others in gates.
	w.refresh()
	w.touch()
}

// gone is called when the pod is no longer in the API server.
func (w *worker) gone() {
	w.stopOnce.Do(func() { close(w.stopping) })
	w.cancel()
}

// refresh and touch never block: one pending request is as good as many.
func (w *worker) refresh() { poke(w.stale) }
func (w *worker) touch()   { poke(w.dirty) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// change applies a change of what the status shows.
func (w *worker) change(apply func()) {
	w.mu.Lock()
	apply()
	w.mu.Unlock()
	w.touch()
}

func (w *worker) current() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// run is the life of the pod.
func (w *worker) run() {
	defer w.cancel()
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		w.writeStatuses()
	}()
	if w.setUp() {
		upkeep, end := context.WithCancel(w.ctx)
		go w.keepVolumes(upkeep)
		w.runContainers()
		end()
	}
	w.change(func() { w.terminated = true })
	// A pod that is through stays until somebody deletes it.
	select {
	case <-w.stopping:
	case <-w.ctx.Done():
	}
	w.remove()
	w.cancel()
	<-writing
	w.tearDown()
}

// setUp makes network and volumes; it tells whether the containers can start.
func (w *worker) setUp() bool {
	for {
		err := w.prepare()
		if err == nil {
			return true
		}
		w.failed("FailedMount", err)
		select {
		case <-w.stopping:
			return false
		case <-w.stale:
		case <-time.After(setupRetry):
		}
	}
}

func (w *worker) prepare() error {
	if w.net == nil {
		net, err := w.kubelet.network.AddPod()
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.net = net
		w.mu.Unlock()
	}
	return w.writeVolumes()
}

// failed shows why the pod does not start in an event and in the status of its
// containers. The recorder folds repetitions into one event.
func (w *worker) failed(reason string, err error) {
	w.kubelet.events.Event(w.current(), corev1.EventTypeWarning, reason, err.Error())
	w.change(func() {
		for _, c := range w.all() {
			c.status.State = waiting("ContainerCreating", err.Error())
		}
	})
}

// runContainers runs the init containers one after the other and then all
// others; it returns when all have ended for good. Sidecars, the init containers
// that are restarted, outlive the others.
func (w *worker) runContainers() {
	var sidecars, main sync.WaitGroup
	finish := make(chan struct{})
	if w.runInit(&sidecars, finish) {
		w.change(func() { w.initialized = true })
		for _, c := range w.containers {
			main.Go(func() { c.run(w.stopping) })
		}
		main.Wait()
	}
	close(finish)
	sidecars.Wait()
}

// runInit tells whether all init containers are through or, for sidecars, up.
func (w *worker) runInit(sidecars *sync.WaitGroup, finish chan struct{}) bool {
	for _, c := range w.init {
		if !c.sidecar() {
			if !c.run(w.stopping) {
				return false
			}
			continue
		}
		sidecars.Go(func() { c.run(finish) })
		select {
		case <-c.started:
		case <-w.stopping:
			return false
		}
	}
	return true
}

// tearDown releases what setUp made. What the containers printed stays with the
// other logs until the end of the run.
func (w *worker) tearDown() {
	w.mu.Lock()
	net := w.net
	w.mu.Unlock()
	var errs []error
	if net != nil {
		errs = append(errs, w.kubelet.network.RemovePod(net))
	}
	errs = append(errs, w.removeFiles())
	if err := errors.Join(errs...); err != nil {
		w.kubelet.log.Printf("tear down pod %s/%s: %v", w.namespace, w.name, err)
	}
}

// grace is how long the containers have to end after the signal.
func (w *worker) grace() time.Duration {
	pod := w.current()
	seconds := int64(30)
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		seconds = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	return time.Duration(seconds) * time.Second
}

// references resolves what the pod refers to at this moment.
func (w *worker) references() resolve.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return resolve.Pod{
		Pod:     w.pod,
		Objects: podObjects{w},
		Host: resolve.Host{
			PodIP:         w.net.IP.String(),
			HostIP:        topology.HostIP,
			NodeName:      topology.NodeName,
			APIServerPort: topology.APIServerPort,
		},
	}
}

// all are the init containers and the others.
func (w *worker) all() []*container {
	return slices.Concat(w.init, w.containers)
}

func (w *worker) directory() string {
	return filepath.Join(w.kubelet.state.Pods(), string(w.uid))
}
