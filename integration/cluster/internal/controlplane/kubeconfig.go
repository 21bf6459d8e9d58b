package controlplane

import (
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"kthena-router/integration/cluster/internal/topology"
)

// writeKubeconfig writes the administrator's kubeconfig with everything inline,
// so that it can be copied elsewhere.
func writeKubeconfig(state topology.State) error {
	var files [3][]byte
	for i, name := range []string{"ca.crt", "admin.crt", "admin.key"} {
		text, err := os.ReadFile(state.PKI(name))
		if err != nil {
			return fmt.Errorf("write kubeconfig: %w", err)
		}
		files[i] = text
	}
	const name = "cluster"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{
		Server:                   topology.APIServerURL(topology.APIServerPort),
		CertificateAuthorityData: files[0],
	}
	config.AuthInfos["admin"] = &api.AuthInfo{ClientCertificateData: files[1], ClientKeyData: files[2]}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: "admin"}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, state.Kubeconfig()); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// ClientConfig is the administrator's access for the parts of the cluster. It is
// not throttled: in a test cluster a client-side queue only hides latencies.
func ClientConfig(kubeconfig, userAgent string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	config.UserAgent = userAgent
	return config, nil
}
