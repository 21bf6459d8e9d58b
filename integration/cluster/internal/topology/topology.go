// Package topology fixes the addresses, ports and file names that the parts of
// the cluster share. All addresses exist only inside the network namespace that
// the rig makes for itself, so two clusters on one machine never meet.
package topology

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

const (
	// BridgeName is the bridge that all pods hang on.
	BridgeName = "pods0"
	// HostIP is the rig's address on the bridge: API server, kubelet and the
	// default gateway of every pod.
	HostIP = "10.244.0.1"
	// PodCIDR is the range of the bridge.
	PodCIDR = "10.244.0.0/16"
	// ClusterIPCIDR is the range of the Services' cluster IPs.
	ClusterIPCIDR = "10.96.0.0/16"
	// LoadBalancerCIDR is the range of Services of type LoadBalancer.
	LoadBalancerCIDR = "10.97.0.0/24"

	// APIServerPort is the port of the API server that everything talks to.
	APIServerPort = 6443
	// KubeletPort is the port on which the API server asks for pod logs.
	KubeletPort = 10250
	// EtcdClientURL is where etcd serves the API server.
	EtcdClientURL = "http://127.0.0.1:2379"
	// ControlAddress is where the control API listens.
	ControlAddress = "127.0.0.1:9900"

	// NodeName names the only node.
	NodeName = "node-0"
)

// The first and the last address that a pod may get. What lies above is left to
// tests that need addresses of their own on the bridge's range.
var (
	FirstPodIP = netip.MustParseAddr("10.244.1.1")
	LastPodIP  = netip.MustParseAddr("10.244.249.254")
)

// APIServerURL is the address of an API server on the given port.
func APIServerURL(port int) string {
	return fmt.Sprintf("https://%s:%d", HostIP, port)
}

// State is the directory that holds every file of one run.
type State string

// Kubeconfig is the administrator's kubeconfig.
func (s State) Kubeconfig() string { return filepath.Join(string(s), "kubeconfig") }

// PKI is the path of a key or certificate.
func (s State) PKI(name string) string { return filepath.Join(string(s), "pki", name) }

// Log is the log of a process of the control plane or of the rig itself.
func (s State) Log(name string) string { return filepath.Join(string(s), "logs", name+".log") }

// AuditLog is the audit log of the API server on the given port. Only the main
// one writes to the well-known place: what a test does through a back door is
// not to be mixed with what it examines.
func (s State) AuditLog(port int) string {
	if port == APIServerPort {
		return filepath.Join(string(s), "audit.log")
	}
	return filepath.Join(string(s), fmt.Sprintf("audit-%d.log", port))
}

// Etcd is the data directory of etcd.
func (s State) Etcd() string { return filepath.Join(string(s), "etcd") }

// Pods is the directory of the pods' volumes.
func (s State) Pods() string { return filepath.Join(string(s), "pods") }

// PodLogs is the directory of the containers' output.
func (s State) PodLogs() string { return filepath.Join(string(s), "logs", "pods") }

// Containers is the directory whose subdirectories serve as mount points for
// the containers' root file systems.
func (s State) Containers() string { return filepath.Join(string(s), "containers") }
