// Package kubelet runs the pods of the only node as local processes.
package kubelet

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"kthena-router/integration/cluster/internal/mirror"
	"kthena-router/integration/cluster/internal/network"
	"kthena-router/integration/cluster/internal/sandbox"
	"kthena-router/integration/cluster/internal/topology"
)

// requestTimeout bounds single requests to the API server.
const requestTimeout = 10 * time.Second

// Kubelet binds pods to its node and runs them.
type Kubelet struct {
	client  kubernetes.Interface
	network *network.Network
	images  sandbox.Images
	state   topology.State
	log     *log.Logger
	events  record.EventRecorder

	pods       *mirror.Mirror[*corev1.Pod]
	secrets    *mirror.Mirror[*corev1.Secret]
	configMaps *mirror.Mirror[*corev1.ConfigMap]

	mu      sync.Mutex
	workers map[types.UID]*worker
}

// New makes a kubelet; Run starts it.
func New(client kubernetes.Interface, events record.EventRecorder, net *network.Network, images sandbox.Images, state topology.State, logger *log.Logger) *Kubelet {
	k := &Kubelet{
		client:  client,
		events:  events,
		network: net,
		images:  images,
		state:   state,
		log:     logger,
		workers: map[types.UID]*worker{},
	}
	k.pods = mirror.New(k.podChanged)
	k.secrets = mirror.New(func(before, after *corev1.Secret) { k.sourceChanged(namespaceOf(before, after)) })
	k.configMaps = mirror.New(func(before, after *corev1.ConfigMap) { k.sourceChanged(namespaceOf(before, after)) })
	return k
}

// Run registers the node and serves until the context ends. It returns as soon
// as pods can be run.
func (k *Kubelet) Run(ctx context.Context) error {
	if err := k.serve(ctx); err != nil {
		return err
	}
	core := k.client.CoreV1().RESTClient()
	follow := func(resource string) cache.ListerWatcher {
		return cache.NewListWatchFromClient(core, resource, metav1.NamespaceAll, fields.Everything())
	}
	go k.secrets.Run(ctx, follow("secrets"), &corev1.Secret{})
	go k.configMaps.Run(ctx, follow("configmaps"), &corev1.ConfigMap{})
	for _, synced := range []<-chan struct{}{k.secrets.Synced(), k.configMaps.Synced()} {
		select {
		case <-synced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := k.register(ctx); err != nil {
		return err
	}
	go k.pods.Run(ctx, follow("pods"), &corev1.Pod{})
	return nil
}

// podChanged gets every difference of every pod.
func (k *Kubelet) podChanged(before, after *corev1.Pod) {
	switch {
	case after == nil:
		if before.Spec.NodeName == topology.NodeName {
			k.withWorker(before.UID, (*worker).gone)
		}
	case after.Spec.NodeName == topology.NodeName:
		k.workerFor(after).update(after)
	case after.Spec.NodeName == "" && schedulable(after):
		go k.bind(after)
	}
}

// schedulable tells whether this stand-in for a scheduler has to place a pod.
func schedulable(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil &&
		pod.Spec.SchedulerName == corev1.DefaultSchedulerName &&
		len(pod.Spec.SchedulingGates) == 0 &&
		labels.SelectorFromSet(pod.Spec.NodeSelector).Matches(labels.Set(nodeLabels()))
}

func (k *Kubelet) bind(pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: topology.NodeName},
	}
	if err := k.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{}); err != nil {
		// A pod that is still there and unbound comes again with the next
		// change or list.
		k.log.Printf("bind pod %s/%s: %v", pod.Namespace, pod.Name, err)
		return
	}
	k.events.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, topology.NodeName)
}

// sourceChanged makes the pods of a namespace look at their volumes again.
func (k *Kubelet) sourceChanged(namespace string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if w.namespace == namespace {
			w.refresh()
		}
	}
}

func (k *Kubelet) workerFor(pod *corev1.Pod) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, found := k.workers[pod.UID]
	if !found {
		w = newWorker(k, pod)
		k.workers[pod.UID] = w
		go func() {
			w.run()
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.workers, pod.UID)
		}()
	}
	return w
}

func (k *Kubelet) withWorker(uid types.UID, do func(*worker)) {
	k.mu.Lock()
	w := k.workers[uid]
	k.mu.Unlock()
	if w != nil {
		do(w)
	}
}

// worker finds the running pod of that name for the control API and for logs.
func (k *Kubelet) worker(namespace, name string) (*worker, error) {
	pod, found := k.pods.Get(namespace, name)
	if !found {
		return nil, fmt.Errorf("there is no pod %s/%s", namespace, name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[pod.UID]
	if w == nil {
		return nil, fmt.Errorf("pod %s/%s does not run on this node", namespace, name)
	}
	return w, nil
}

func namespaceOf[T mirror.Object](before, after T) string {
	var none T
	if after != none {
		return after.GetNamespace()
	}
	return before.GetNamespace()
}
