package kubelet

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestProbeCounter(t *testing.T) {
	tests := map[string]struct {
		probe   corev1.Probe
		results string // + and - are results
		want    string // + and - are verdicts, . none
	}{
		"defaults":     {corev1.Probe{}, "+-+", "+-+"},
		"three to one": {corev1.Probe{FailureThreshold: 3}, "+--+---+", "+..+..-+"},
		"two to pass":  {corev1.Probe{SuccessThreshold: 2}, "+-++", ".-.+"},
		"first fails":  {corev1.Probe{FailureThreshold: 2}, "--+", ".-+"},
	}
	for name, test := range tests {
		counter := newCounter(&test.probe)
		got := ""
		for _, result := range test.results {
			verdict, reached := counter.observe(result == '+')
			switch {
			case !reached:
				got += "."
			case verdict:
				got += "+"
			default:
				got += "-"
			}
		}
		if got != test.want {
			t.Errorf("%s: %s gives %s, want %s", name, test.results, got, test.want)
		}
	}
}

func number(n int64) *int64 { return &n }
func flag(b bool) *bool     { return &b }

func TestUserOf(t *testing.T) {
	tests := map[string]struct {
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		want      user
		fails     bool
	}{
		"root by default": {want: user{}},
		"from the pod":    {pod: &corev1.PodSecurityContext{RunAsUser: number(5), RunAsGroup: number(6), FSGroup: number(7)}, want: user{uid: 5, gid: 6, groups: []uint32{7}}},
		"container wins": {pod: &corev1.PodSecurityContext{RunAsUser: number(5)}, container: &corev1.SecurityContext{RunAsUser: number(8)},
			want: user{uid: 8}},
		"the image's":    {pod: &corev1.PodSecurityContext{RunAsNonRoot: flag(true)}, want: user{uid: nonRoot, gid: nonRoot}},
		"root forbidden": {pod: &corev1.PodSecurityContext{RunAsNonRoot: flag(true), RunAsUser: number(0)}, fails: true},
	}
	for name, test := range tests {
		got, err := userOf(test.pod, test.container)
		if (err != nil) != test.fails {
			t.Errorf("%s: error %v", name, err)
		}
		if got.uid != test.want.uid || got.gid != test.want.gid || !slices.Equal(got.groups, test.want.groups) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestRestarts(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	tests := []struct {
		policy  corev1.RestartPolicy
		init    bool
		own     *corev1.ContainerRestartPolicy
		ok, bad bool
	}{
		{policy: corev1.RestartPolicyAlways, ok: true, bad: true},
		{policy: corev1.RestartPolicyOnFailure, ok: false, bad: true},
		{policy: corev1.RestartPolicyNever, ok: false, bad: false},
		{policy: corev1.RestartPolicyAlways, init: true, ok: false, bad: true},
		{policy: corev1.RestartPolicyNever, init: true, ok: false, bad: false},
		{policy: corev1.RestartPolicyNever, init: true, own: &always, ok: true, bad: true},
	}
	for _, test := range tests {
		w := &worker{spec: &corev1.PodSpec{RestartPolicy: test.policy}}
		c := newContainer(w, &corev1.Container{RestartPolicy: test.own}, test.init)
		if c.restarts(0) != test.ok || c.restarts(1) != test.bad {
			t.Errorf("%+v: restarts(0) %v, restarts(1) %v", test, c.restarts(0), c.restarts(1))
		}
	}
}

func TestSchedulable(t *testing.T) {
	now := metav1.Now()
	ordinary := func(change func(*corev1.Pod)) *corev1.Pod {
		pod := &corev1.Pod{Spec: corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName}}
		change(pod)
		return pod
	}
	tests := map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"ordinary":        {ordinary(func(*corev1.Pod) {}), true},
		"deleted":         {ordinary(func(p *corev1.Pod) { p.DeletionTimestamp = &now }), false},
		"gated":           {ordinary(func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }), false},
		"other scheduler": {ordinary(func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }), false},
		"other node":      {ordinary(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), false},
		"this node": {ordinary(func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "node-0"}
		}), true},
	}
	for name, test := range tests {
		if got := schedulable(test.pod); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestNamedPort(t *testing.T) {
	a := &attempt{container: &container{spec: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}}
	for text, want := range map[string]int{"http": 8080, "9": 9, "absent": 0} {
		got, err := a.port(intstr.FromString(text))
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%s: got %d, error %v", text, got, err)
		}
	}
}
