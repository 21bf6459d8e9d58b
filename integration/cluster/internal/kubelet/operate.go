package kubelet

import (
	"fmt"
	"syscall"

	"kthena-router/integration/cluster/internal/process"
)

// SignalContainer sends a signal to a container's program; without a name, to
// that of the pod's only container.
func (k *Kubelet) SignalContainer(namespace, pod, name string, signal syscall.Signal) error {
	w, err := k.worker(namespace, pod)
	if err != nil {
		return err
	}
	c, err := w.container(name)
	if err != nil {
		return err
	}
	a := c.active()
	if a == nil {
		return fmt.Errorf("container %s of pod %s/%s is not running", c.spec.Name, namespace, pod)
	}
	return a.signal(signal)
}

// Partition cuts a pod off from the API server or joins it again.
func (k *Kubelet) Partition(namespace, pod string, on bool) error {
	w, err := k.connected(namespace, pod)
	if err != nil {
		return err
	}
	return k.network.Partition(w.net, on)
}

// AnyIP makes a pod answer to all addresses of a range.
func (k *Kubelet) AnyIP(namespace, pod, cidr string) error {
	w, err := k.connected(namespace, pod)
	if err != nil {
		return err
	}
	return k.network.AnyIP(w.net, cidr)
}

func (k *Kubelet) connected(namespace, pod string) (*worker, error) {
	w, err := k.worker(namespace, pod)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.net == nil {
		return nil, fmt.Errorf("pod %s/%s has no network yet", namespace, pod)
	}
	return w, nil
}

// Usages lists what the containers' programs consume.
func (k *Kubelet) Usages() []process.Usage {
	k.mu.Lock()
	var containers []*container
	for _, w := range k.workers {
		containers = append(containers, w.all()...)
	}
	k.mu.Unlock()
	var usages []process.Usage
	for _, c := range containers {
		a := c.active()
		if a == nil {
			continue
		}
		w := c.worker
		usage, err := process.UsageOf(w.namespace+"/"+w.name+"/"+c.spec.Name, a.pid())
		if err == nil { // it may just have ended
			usages = append(usages, usage)
		}
	}
	return usages
}
