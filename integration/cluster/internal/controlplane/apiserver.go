package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/kubernetes/cmd/kube-apiserver/app"

	"kthena-router/integration/cluster/internal/process"
	"kthena-router/integration/cluster/internal/topology"
)

// auditPolicy records what the system under test asks for and nothing else, for
// the test that compares its RBAC rules with what it really uses.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:kthena-system"]
- level: None
`

// RunAPIServer is the API server process; args are its own flags.
func RunAPIServer(args []string) error {
	command := app.NewAPIServerCommand()
	command.SetArgs(args)
	return command.Execute()
}

// apiServerFlags are those of any cluster except for what costs time or memory
// and serves nobody here.
func apiServerFlags(state topology.State, port int) []string {
	return []string{
		"--etcd-servers=" + topology.EtcdClientURL,
		"--bind-address=" + topology.HostIP,
		"--advertise-address=" + topology.HostIP,
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + state.PKI("apiserver.crt"),
		"--tls-private-key-file=" + state.PKI("apiserver.key"),
		"--client-ca-file=" + state.PKI("ca.crt"),
		"--kubelet-certificate-authority=" + state.PKI("ca.crt"),
		"--kubelet-client-certificate=" + state.PKI("kubelet-client.crt"),
		"--kubelet-client-key=" + state.PKI("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + state.PKI("service-account.key"),
		"--service-account-signing-key-file=" + state.PKI("service-account.key"),
		"--service-cluster-ip-range=" + topology.ClusterIPCIDR,
		"--authorization-mode=RBAC",
		// The reconciler would publish an address that validation refuses or
		// that goes stale when a back door is opened.
		"--endpoint-reconciler-type=none",
		"--audit-policy-file=" + state.PKI("audit-policy.yaml"),
		"--audit-log-path=" + state.AuditLog(port),
		"--audit-log-mode=blocking",
		"--enable-priority-and-fairness=false",
		"--profiling=false",
		"--allow-privileged=true",
		// Ends watches after a random time of at least this; a run is shorter.
		"--min-request-timeout=3600",
	}
}

// waitReady polls /readyz until the API server on the port is ready. The last
// answer is part of the error, since it lists the checks that failed.
func waitReady(ctx context.Context, state topology.State, port int, server *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	client, err := adminHTTPClient(state)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := get(ctx, client, topology.APIServerURL(port)+"/readyz?verbose")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-server.Done():
			return server.Failure()
		case <-ctx.Done():
			return fmt.Errorf("%s on port %d is not ready: %w; last answer: %v\n%s\n%s", server.Name, port, ctx.Err(), err,
				answer, process.Tail(state.Log(server.Name), 15))
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return strings.TrimSpace(string(body)), fmt.Errorf("status %s", response.Status)
	}
	return "", nil
}

func adminHTTPClient(state topology.State) (*http.Client, error) {
	certificate, err := tls.LoadX509KeyPair(state.PKI("admin.crt"), state.PKI("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("load admin certificate: %w", err)
	}
	ca, err := os.ReadFile(state.PKI("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
		DisableKeepAlives: true,
	}}, nil
}
