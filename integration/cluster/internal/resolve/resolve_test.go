package resolve

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kthena-router/integration/cluster/internal/volumes"
)

// fake holds one Secret and one ConfigMap.
type fake struct{}

func (fake) Secret(_, name string) (*corev1.Secret, error) {
	if name != "secret" {
		return nil, fmt.Errorf("Secret %s: %w", name, ErrNotFound)
	}
	return &corev1.Secret{Data: map[string][]byte{"user": []byte("alice"), "not a name": []byte("x")}}, nil
}

func (fake) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if name != "config" {
		return nil, fmt.Errorf("ConfigMap %s: %w", name, ErrNotFound)
	}
	return &corev1.ConfigMap{Data: map[string]string{"color": "red"}, BinaryData: map[string][]byte{"raw": {0, 1}}}, nil
}

func (fake) Token(_ *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, error) {
	return "token for " + p.Audience, nil
}

func testPod() Pod {
	return Pod{
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "ns", Labels: map[string]string{"app": "x"}},
			Spec: corev1.PodSpec{ServiceAccountName: "robot", Containers: []corev1.Container{{
				Name: "main",
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("2"),
				}},
			}}},
		},
		Objects: fake{},
		Host:    Host{PodIP: "10.244.1.1", HostIP: "10.244.0.1", NodeName: "node-0", APIServerPort: 6443},
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func configKey(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
	}}
}

func TestEnvironment(t *testing.T) {
	container := &corev1.Container{
		Name: "main",
		EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}, Prefix: "C_"},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}}},
		},
		Env: []corev1.EnvVar{
			{Name: "NAME", ValueFrom: fieldRef("metadata.name")},
			{Name: "IP", ValueFrom: fieldRef("status.podIP")},
			{Name: "LABEL", ValueFrom: fieldRef("metadata.labels['app']")},
			{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "URL", Value: "http://$(IP):80/$(UNKNOWN)/$$(IP)"},
			{Name: "C_color", Value: "blue"},
			{Name: "ABSENT", ValueFrom: configKey("nowhere", "k", true)},
			{Name: "NO_KEY", ValueFrom: configKey("config", "k", true)},
		},
	}
	environment, err := testPod().Environment(container)
	if err != nil {
		t.Fatal(err)
	}
	list := environment.List()
	for _, want := range []string{
		"KUBERNETES_SERVICE_HOST=10.244.0.1", "KUBERNETES_SERVICE_PORT=6443", "HOSTNAME=pod",
		"NAME=pod", "IP=10.244.1.1", "LABEL=x", "CPUS=2", "user=alice",
		"URL=http://10.244.1.1:80/$(UNKNOWN)/$(IP)", "C_color=blue",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("%q is missing in %q", want, list)
		}
	}
	for _, variable := range list {
		if name, _, _ := strings.Cut(variable, "="); name == "ABSENT" || name == "NO_KEY" || name == "not a name" {
			t.Errorf("unexpected variable %q", variable)
		}
	}
	if got := environment.Expand("--address=$(IP)"); got != "--address=10.244.1.1" {
		t.Errorf("expanded to %q", got)
	}
}

func TestEnvironmentNamesWhatIsMissing(t *testing.T) {
	for reference, source := range map[string]*corev1.EnvVarSource{
		"ConfigMap nowhere":                configKey("nowhere", "k", false),
		`key "k" in ConfigMap ns/config`:   configKey("config", "k", false),
		"unsupported fieldPath: spec.else": fieldRef("spec.else"),
	} {
		_, err := testPod().Environment(&corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: source}}})
		if err == nil || !strings.Contains(err.Error(), reference) || !strings.Contains(err.Error(), "variable A") {
			t.Errorf("error %v does not name %q", err, reference)
		}
	}
}

func volumeOf(source corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: "v", VolumeSource: source}
}

func TestVolume(t *testing.T) {
	read := int32(0o400)
	tests := map[string]struct {
		source corev1.VolumeSource
		want   map[string]string
	}{
		"secret": {
			corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret", DefaultMode: &read}},
			map[string]string{"user": "400 alice", "not a name": "400 x"},
		},
		"items": {
			corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "config"},
				Items:                []corev1.KeyToPath{{Key: "color", Path: "a/b", Mode: &read}},
			}},
			map[string]string{"a/b": "400 red"},
		},
		"projected": {
			corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "api"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "config"},
					Items: []corev1.KeyToPath{{Key: "raw", Path: "raw"}}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
					{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
			}}},
			map[string]string{"token": "644 token for api", "raw": "644 \x00\x01", "namespace": "644 ns"},
		},
	}
	for name, test := range tests {
		payload, contents, err := testPod().Volume(volumeOf(test.source))
		if err != nil || !contents {
			t.Errorf("%s: contents %v, error %v", name, contents, err)
			continue
		}
		if got := render(payload); !maps.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func render(payload volumes.Payload) map[string]string {
	text := map[string]string{}
	for name, file := range payload {
		text[name] = fmt.Sprintf("%o %s", file.Mode, file.Data)
	}
	return text
}

func TestVolumeErrors(t *testing.T) {
	optional := true
	absent := &corev1.SecretVolumeSource{SecretName: "nowhere"}
	if _, _, err := testPod().Volume(volumeOf(corev1.VolumeSource{Secret: absent})); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent Secret: %v", err)
	}
	absent.Optional = &optional
	if payload, contents, err := testPod().Volume(volumeOf(corev1.VolumeSource{Secret: absent})); err != nil || !contents || len(payload) > 0 {
		t.Errorf("absent optional Secret: %v, %v, %v", payload, contents, err)
	}
	if _, contents, err := testPod().Volume(volumeOf(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})); contents || err != nil {
		t.Errorf("emptyDir: contents %v, error %v", contents, err)
	}
	if _, _, err := testPod().Volume(volumeOf(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}})); err == nil {
		t.Error("an unsupported volume is accepted")
	}
}
