package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kthena-router/integration/cluster/internal/topology"
)

// writeRetry is how soon a status or deletion that the API server did not take
// is tried again; it is often down on purpose.
const writeRetry = 200 * time.Millisecond

// writeStatuses writes the status after every change until the pod is gone.
func (w *worker) writeStatuses() {
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.dirty:
		}
		w.insist("write status", w.writeStatus)
	}
}

// remove takes the terminated pod out of the API server. The precondition keeps
// it from hitting a new pod of the same name.
func (w *worker) remove() {
	w.insist("remove", func(ctx context.Context) error {
		now := int64(0)
		return w.kubelet.client.CoreV1().Pods(w.namespace).Delete(ctx, w.name, metav1.DeleteOptions{
			GracePeriodSeconds: &now,
			Preconditions:      &metav1.Preconditions{UID: &w.uid},
		})
	})
}

// insist repeats a request until it succeeds or the pod is gone.
func (w *worker) insist(what string, request func(context.Context) error) {
	for w.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(w.ctx, requestTimeout)
		err := request(ctx)
		cancel()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		if w.ctx.Err() == nil && !unreachable(err) {
			w.kubelet.log.Printf("%s of pod %s/%s: %v", what, w.namespace, w.name, err)
		}
		select {
		case <-w.ctx.Done():
		case <-time.After(writeRetry):
		}
	}
}

// unreachable tells the ordinary case of an API server that is down from
// answers that point to a mistake.
func unreachable(err error) bool {
	_, answered := err.(apierrors.APIStatus)
	return !answered
}

func (w *worker) writeStatus(ctx context.Context) error {
	w.mu.Lock()
	input := statusInput{
		pod:         w.pod,
		previous:    w.written,
		initialized: w.initialized,
		terminated:  w.terminated,
		started:     metav1.NewTime(w.started),
		now:         metav1.Now(),
	}
	if w.net != nil {
		input.ip = w.net.IP.String()
	}
	for _, c := range w.init {
		input.init = append(input.init, *c.status.DeepCopy())
	}
	for _, c := range w.containers {
		input.containers = append(input.containers, *c.status.DeepCopy())
	}
	w.mu.Unlock()

	status := buildStatus(input)
	if input.previous != nil && equality.Semantic.DeepEqual(*input.previous, status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": w.uid},
		"status":   status,
	})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	_, err = w.kubelet.client.CoreV1().Pods(w.namespace).Patch(ctx, w.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		w.mu.Lock()
		w.written = &status
		w.mu.Unlock()
	}
	return err
}

// statusInput is all that a pod's status depends on.
type statusInput struct {
	pod              *corev1.Pod
	previous         *corev1.PodStatus
	init, containers []corev1.ContainerStatus
	initialized      bool
	terminated       bool
	ip               string
	started, now     metav1.Time
}

func buildStatus(in statusInput) corev1.PodStatus {
	status := corev1.PodStatus{
		ObservedGeneration:    in.pod.Generation,
		Phase:                 phase(in),
		Conditions:            conditions(in),
		HostIP:                topology.HostIP,
		HostIPs:               []corev1.HostIP{{IP: topology.HostIP}},
		StartTime:             &in.started,
		QOSClass:              in.pod.Status.QOSClass,
		InitContainerStatuses: in.init,
		ContainerStatuses:     in.containers,
	}
	if in.ip != "" {
		status.PodIP = in.ip
		status.PodIPs = []corev1.PodIP{{IP: in.ip}}
	}
	return status
}

func phase(in statusInput) corev1.PodPhase {
	allEnded, anyFailed, anyNeverRan := true, false, false
	for _, c := range in.containers {
		switch {
		case c.State.Terminated != nil:
			anyFailed = anyFailed || c.State.Terminated.ExitCode != 0
		case c.State.Waiting != nil && c.LastTerminationState.Terminated == nil:
			anyNeverRan = true
			allEnded = false
		default:
			allEnded = false
		}
	}
	for _, c := range in.init {
		anyFailed = anyFailed || c.State.Terminated != nil && c.State.Terminated.ExitCode != 0
	}
	switch {
	case in.terminated && (anyFailed || !allEnded):
		return corev1.PodFailed
	case in.terminated:
		return corev1.PodSucceeded
	case !in.initialized || anyNeverRan:
		return corev1.PodPending
	default:
		return corev1.PodRunning
	}
}

func conditions(in statusInput) []corev1.PodCondition {
	unready := unreadyNames(in.containers)
	containersReady := verdict{ok: len(unready) == 0 && in.initialized, reason: "ContainersNotReady",
		message: "containers with unready status: [" + strings.Join(unready, " ") + "]"}
	if in.terminated {
		containersReady = verdict{reason: "PodCompleted"}
	}
	ready := containersReady
	if missing := failedGates(in.pod); ready.ok && len(missing) > 0 {
		ready = verdict{reason: "ReadinessGatesNotReady", message: "not true: " + strings.Join(missing, ", ")}
	}
	return []corev1.PodCondition{
		condition(in, corev1.PodScheduled, verdict{ok: true}),
		condition(in, corev1.PodReadyToStartContainers, verdict{ok: in.ip != ""}),
		condition(in, corev1.PodInitialized, verdict{ok: in.initialized, reason: "ContainersNotInitialized",
			message: "containers with incomplete status: [" + strings.Join(unreadyNames(in.init), " ") + "]"}),
		condition(in, corev1.ContainersReady, containersReady),
		condition(in, corev1.PodReady, ready),
	}
}

// verdict is a condition's state with the reason for not being true.
type verdict struct {
	ok              bool
	reason, message string
}

// condition keeps the time of the last transition unless there is one.
func condition(in statusInput, kind corev1.PodConditionType, v verdict) corev1.PodCondition {
	c := corev1.PodCondition{
		Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: in.now, ObservedGeneration: in.pod.Generation,
	}
	if !v.ok {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, v.reason, v.message
	}
	if in.previous != nil {
		for _, old := range in.previous.Conditions {
			if old.Type == kind && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return c
}

func unreadyNames(statuses []corev1.ContainerStatus) []string {
	var names []string
	for _, c := range statuses {
		if !c.Ready {
			names = append(names, c.Name)
		}
	}
	return names
}

func failedGates(pod *corev1.Pod) []string {
	var failed []string
	for _, gate := range pod.Spec.ReadinessGates {
		ok := false
		for _, c := range pod.Status.Conditions {
			ok = ok || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		if !ok {
			failed = append(failed, string(gate.ConditionType))
		}
	}
	return failed
}
