package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	isRunning  = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	isCreating = waiting("ContainerCreating", "")
	isBackOff  = waiting("CrashLoopBackOff", "")
)

func endedWith(code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
}

func container1(state corev1.ContainerState, ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", State: state, Ready: ready}
}

func TestPhaseAndReadiness(t *testing.T) {
	crashed := container1(isBackOff, false)
	crashed.LastTerminationState = endedWith(1)
	tests := map[string]struct {
		in    statusInput
		phase corev1.PodPhase
		ready corev1.ConditionStatus
	}{
		"creating": {statusInput{initialized: true, containers: []corev1.ContainerStatus{container1(isCreating, false)}},
			corev1.PodPending, corev1.ConditionFalse},
		"initializing": {statusInput{containers: []corev1.ContainerStatus{container1(isCreating, false)}},
			corev1.PodPending, corev1.ConditionFalse},
		"running": {statusInput{initialized: true, containers: []corev1.ContainerStatus{container1(isRunning, true)}},
			corev1.PodRunning, corev1.ConditionTrue},
		"one of two unready": {statusInput{initialized: true, containers: []corev1.ContainerStatus{container1(isRunning, true), container1(isRunning, false)}},
			corev1.PodRunning, corev1.ConditionFalse},
		"one of two never ran": {statusInput{initialized: true, containers: []corev1.ContainerStatus{container1(isRunning, true), container1(isCreating, false)}},
			corev1.PodPending, corev1.ConditionFalse},
		"crashing": {statusInput{initialized: true, containers: []corev1.ContainerStatus{crashed}},
			corev1.PodRunning, corev1.ConditionFalse},
		"succeeded": {statusInput{initialized: true, terminated: true, containers: []corev1.ContainerStatus{container1(endedWith(0), false)}},
			corev1.PodSucceeded, corev1.ConditionFalse},
		"failed": {statusInput{initialized: true, terminated: true, containers: []corev1.ContainerStatus{container1(endedWith(0), false), container1(endedWith(2), false)}},
			corev1.PodFailed, corev1.ConditionFalse},
		"init failed": {statusInput{terminated: true, init: []corev1.ContainerStatus{container1(endedWith(2), false)}, containers: []corev1.ContainerStatus{container1(isCreating, false)}},
			corev1.PodFailed, corev1.ConditionFalse},
	}
	for name, test := range tests {
		test.in.pod = &corev1.Pod{}
		status := buildStatus(test.in)
		if status.Phase != test.phase {
			t.Errorf("%s: phase %s, want %s", name, status.Phase, test.phase)
		}
		if got := find(status, corev1.PodReady).Status; got != test.ready {
			t.Errorf("%s: ready %s, want %s", name, got, test.ready)
		}
	}
}

func find(status corev1.PodStatus, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestReadinessGates(t *testing.T) {
	in := statusInput{
		pod:         &corev1.Pod{Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "x/gate"}}}},
		initialized: true,
		containers:  []corev1.ContainerStatus{container1(isRunning, true)},
	}
	if got := find(buildStatus(in), corev1.PodReady); got.Status != corev1.ConditionFalse || got.Message != "not true: x/gate" {
		t.Errorf("closed gate: %+v", got)
	}
	in.pod.Status.Conditions = []corev1.PodCondition{{Type: "x/gate", Status: corev1.ConditionTrue}}
	if got := find(buildStatus(in), corev1.PodReady); got.Status != corev1.ConditionTrue {
		t.Errorf("open gate: %+v", got)
	}
}

func TestTransitionTimesStay(t *testing.T) {
	early, late := metav1.Unix(1000, 0), metav1.Unix(2000, 0)
	in := statusInput{pod: &corev1.Pod{}, initialized: true, now: early, containers: []corev1.ContainerStatus{container1(isRunning, false)}}
	before := buildStatus(in)
	in.previous, in.now, in.containers = &before, late, []corev1.ContainerStatus{container1(isRunning, true)}
	after := buildStatus(in)
	if got := find(after, corev1.PodReady).LastTransitionTime; got != late {
		t.Errorf("Ready changed at %v, want %v", got, late)
	}
	if got := find(after, corev1.PodInitialized).LastTransitionTime; got != early {
		t.Errorf("Initialized changed at %v, want %v", got, early)
	}
}
