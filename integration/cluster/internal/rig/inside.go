package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"kthena-router/integration/cluster/internal/control"
	"kthena-router/integration/cluster/internal/controlplane"
	"kthena-router/integration/cluster/internal/kubelet"
	"kthena-router/integration/cluster/internal/network"
	"kthena-router/integration/cluster/internal/services"
	"kthena-router/integration/cluster/internal/topology"
)

const (
	// startLimit bounds the start of the whole cluster.
	startLimit = 3 * time.Minute
	// commandGrace is how long the command may take to end after a signal.
	commandGrace = 10 * time.Second
)

// Inside is the rig: the first process of the new namespaces. When it returns,
// the kernel ends everything else in them.
func Inside(state topology.State, options Options) (int, error) {
	if os.Getpid() != 1 {
		return exitFailure, errors.New("this subcommand is started by run")
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go reapOrphans()
	if err := raiseFileLimit(); err != nil {
		return exitFailure, err
	}
	logger, err := openLog(state)
	if err != nil {
		return exitFailure, err
	}
	if err := isolateMounts(); err != nil {
		return exitFailure, err
	}
	net, err := network.Setup()
	if err != nil {
		return exitFailure, fmt.Errorf("set up network: %w", err)
	}
	plane, err := controlplane.Prepare(state)
	if err != nil {
		return exitFailure, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := start(ctx, signals, func(ctx context.Context) error {
		return bringUp(ctx, state, options, net, plane, logger)
	}); err != nil {
		return exitFailure, fmt.Errorf("start cluster: %w", err)
	}
	return runCommand(state, options.Command, signals, plane.Failures())
}

// raiseFileLimit lets the programs of the cluster open as many files as they may.
// Setting the limit here is what makes them inherit it: Go raises it for itself
// at the start, but gives children the original one unless it is set by hand.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// openLog opens the log of the rig's own parts.
func openLog(state topology.State) (*log.Logger, error) {
	path := state.Log("cluster")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(file, nil)))
	return log.New(file, "", log.LstdFlags|log.Lmicroseconds), nil
}

// isolateMounts keeps what is mounted here from the rest of the machine, and
// makes /proc show the new PID namespace.
func isolateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// start runs the bring-up within its time and lets a signal end it.
func start(ctx context.Context, signals <-chan os.Signal, up func(context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not up after %s", startLimit))
	done := make(chan error, 1)
	go func() { done <- up(ctx) }()
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-limited.Done():
		return context.Cause(limited)
	case got := <-signals:
		return fmt.Errorf("interrupted by %s", got)
	}
}

func bringUp(ctx context.Context, state topology.State, options Options, net *network.Network, plane *controlplane.Plane, logger *log.Logger) error {
	if err := plane.Start(ctx); err != nil {
		return err
	}
	config, err := controlplane.ClientConfig(state.Kubeconfig(), "cluster-node")
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := func(component string) record.EventRecorder {
		return events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: topology.NodeName})
	}
	pods := kubelet.New(client, recorder("kubelet"), net, options.Images, state, logger)
	if err := pods.Run(ctx); err != nil {
		return err
	}
	services.New(client, recorder("service-proxy"), logger).Run(ctx)
	if err := control.Serve(ctx, plane, pods, logger); err != nil {
		return err
	}
	return waitUsable(ctx, client, plane.Failures())
}

// waitUsable waits until pods can be created in the default namespace: a pod
// needs the service account, and its token volume the root certificate.
func waitUsable(ctx context.Context, client kubernetes.Interface, failures <-chan error) error {
	const namespace = corev1.NamespaceDefault
	for {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			_, err = client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		}
		if err == nil {
			return nil
		}
		select {
		case failure := <-failures:
			return failure
		case <-ctx.Done():
			return fmt.Errorf("wait for controllers: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// runCommand runs the user's command and returns its exit code. The end of a
// part of the cluster that nobody asked for ends the command, since whatever it
// reports from then on would mislead.
func runCommand(state topology.State, argv []string, signals <-chan os.Signal, failures <-chan error) (int, error) {
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(),
		"KUBECONFIG="+state.Kubeconfig(),
		"CLUSTER_CONTROL=http://"+topology.ControlAddress,
		"CLUSTER_STATE="+string(state))
	if err := command.Start(); err != nil {
		return exitFailure, fmt.Errorf("run command: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	select {
	case err := <-done:
		return commandResult(command, err)
	case failure := <-failures:
		return exitFailure, errors.Join(failure, stopCommand(command, done))
	case got := <-signals:
		err := stopCommand(command, done)
		return 128 + int(got.(syscall.Signal)), err
	}
}

func stopCommand(command *exec.Cmd, done <-chan error) error {
	// An error means that it has ended already.
	_ = command.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
		return nil
	case <-time.After(commandGrace):
		return fmt.Errorf("command did not end within %s of SIGTERM and is killed", commandGrace)
	}
}

func commandResult(command *exec.Cmd, err error) (int, error) {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exitCode(exit.ProcessState), nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return exitFailure, fmt.Errorf("wait for command %s: %w", command.Path, err)
	}
	return 0, nil
}
