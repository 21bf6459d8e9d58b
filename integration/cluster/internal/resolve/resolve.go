// Package resolve turns what a pod refers to (Secrets, ConfigMaps, its own
// fields) into values: the environment of its containers and the contents of
// its volumes.
package resolve

import (
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// ErrNotFound is what Objects returns, wrapped, for an object that is not there.
var ErrNotFound = errors.New("not found")

// Objects gives access to what pods refer to.
type Objects interface {
	Secret(namespace, name string) (*corev1.Secret, error)
	ConfigMap(namespace, name string) (*corev1.ConfigMap, error)
	// Token returns a service account token bound to the pod.
	Token(pod *corev1.Pod, projection *corev1.ServiceAccountTokenProjection) (string, error)
}

// Host is what a pod can learn about where it runs.
type Host struct {
	PodIP, HostIP string
	NodeName      string
	APIServerPort int
}

// Pod resolves the references of one pod.
type Pod struct {
	*corev1.Pod
	Objects Objects
	Host    Host
}

// field is the value of a fieldRef.
func (p Pod) field(path string) (string, error) {
	switch path {
	case "status.podIP", "status.podIPs":
		return p.Host.PodIP, nil
	case "status.hostIP", "status.hostIPs":
		return p.Host.HostIP, nil
	case "spec.nodeName":
		return p.Host.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	}
	return fieldpath.ExtractFieldPathAsString(p.Pod, path)
}

// resourceField is the value of a resourceFieldRef.
func (p Pod) resourceField(selector *corev1.ResourceFieldSelector, container string) (string, error) {
	if selector.ContainerName != "" {
		container = selector.ContainerName
	}
	return resource.ExtractResourceValueByContainerName(selector, p.Pod, container)
}

// environment are the variables that every container gets.
func (p Pod) environment() map[string]string {
	port := strconv.Itoa(p.Host.APIServerPort)
	address := "tcp://" + p.Host.HostIP + ":" + port
	return map[string]string{
		"HOSTNAME":                      p.Name,
		"KUBERNETES_SERVICE_HOST":       p.Host.HostIP,
		"KUBERNETES_SERVICE_PORT":       port,
		"KUBERNETES_SERVICE_PORT_HTTPS": port,
		"KUBERNETES_PORT":               address,
	}
}

// missing tells whether an object may be and is absent.
func missing(err error, optional *bool) bool {
	return errors.Is(err, ErrNotFound) && optional != nil && *optional
}

func noKey(kind, namespace, name, key string) error {
	return fmt.Errorf("key %q in %s %s/%s: %w", key, kind, namespace, name, ErrNotFound)
}
