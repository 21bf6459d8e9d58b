package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"kthena-router/integration/cluster/internal/podlog"
	"kthena-router/integration/cluster/internal/topology"
)

// serve opens the endpoint on which the API server asks for logs.
func (k *Kubelet) serve(ctx context.Context) error {
	config, err := k.serverTLS()
	if err != nil {
		return fmt.Errorf("open kubelet endpoint: %w", err)
	}
	address := net.JoinHostPort(topology.HostIP, strconv.Itoa(topology.KubeletPort))
	listener, err := tls.Listen("tcp", address, config)
	if err != nil {
		return fmt.Errorf("open kubelet endpoint: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: k.log}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			k.log.Printf("kubelet endpoint: %v", err)
		}
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return nil
}

// serverTLS admits only the API server.
func (k *Kubelet) serverTLS() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(k.state.PKI("kubelet.crt"), k.state.PKI("kubelet.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(k.state.PKI("ca.crt"))
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    clients,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
	}, nil
}

func (k *Kubelet) serveLogs(response http.ResponseWriter, request *http.Request) {
	options, err := podlog.ParseOptions(request.URL.Query(), time.Now())
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	name := request.PathValue("container")
	w, err := k.worker(request.PathValue("namespace"), request.PathValue("pod"))
	if err != nil {
		http.Error(response, err.Error(), http.StatusNotFound)
		return
	}
	log, err := w.logOf(name, options.Previous)
	if err != nil {
		http.Error(response, err.Error(), http.StatusNotFound)
		return
	}
	response.Header().Set("Content-Type", "text/plain")
	response.WriteHeader(http.StatusOK)
	if err := log.Read(request.Context(), response, options); err != nil {
		k.log.Printf("logs of pod %s/%s, container %s: %v", w.namespace, w.name, name, err)
	}
}

// logOf finds the log of the present or the previous run of a container.
func (w *worker) logOf(name string, previous bool) (*podlog.Log, error) {
	c, err := w.container(name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	log, which := c.log, "has not run yet"
	if previous {
		log, which = c.previous, "has no previous run"
	}
	if log == nil {
		return nil, fmt.Errorf("container %s of pod %s/%s %s", name, w.namespace, w.name, which)
	}
	return log, nil
}

// container finds a container by name; a pod's only one needs no name.
func (w *worker) container(name string) (*container, error) {
	if name == "" && len(w.containers) == 1 {
		return w.containers[0], nil
	}
	for _, c := range w.all() {
		if c.spec.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s has no container %q", w.namespace, w.name, name)
}
