package kubelet

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	tcpprobe "k8s.io/kubernetes/pkg/probe/tcp"
)

// eagerInterval is the pause between the attempts of a probe's first period.
const eagerInterval = 100 * time.Millisecond

var (
	httpProber = httpprobe.New(false)
	tcpProber  = tcpprobe.New()
	grpcProber = grpcprobe.New()
)

// startProbes runs the container's probes until the context ends.
func (a *attempt) startProbes(ctx context.Context) *sync.WaitGroup {
	c := a.container
	var all sync.WaitGroup
	started := make(chan struct{})
	if c.spec.StartupProbe == nil {
		close(started)
	} else {
		all.Go(func() {
			probing, end := context.WithCancel(ctx)
			defer end()
			a.probe(probing, "Startup", c.spec.StartupProbe, func(ok bool) {
				if !ok {
					a.condemn()
					return
				}
				c.up(a)
				close(started)
				end()
			})
		})
	}
	after := func(kind string, probe *corev1.Probe, report func(bool)) {
		if probe == nil {
			return
		}
		all.Go(func() {
			select {
			case <-started:
				a.probe(ctx, kind, probe, report)
			case <-ctx.Done():
			}
		})
	}
	after("Readiness", c.spec.ReadinessProbe, func(ok bool) { c.ready(a, ok) })
	after("Liveness", c.spec.LivenessProbe, func(ok bool) {
		if !ok {
			a.condemn()
		}
	})
	return &all
}

// probe checks in the rhythm of the probe's timings and reports verdicts.
//
// In one point it differs from the kubelet: within the first period a failed
// check is repeated soon and counts for nothing until the period is over. So a
// program is found ready when it is and not a whole period later, and yet no
// threshold is reached any earlier.
func (a *attempt) probe(ctx context.Context, kind string, p *corev1.Probe, report func(bool)) {
	period := time.Duration(p.PeriodSeconds) * time.Second
	if !sleep(ctx, time.Until(a.begin.Add(time.Duration(p.InitialDelaySeconds)*time.Second))) {
		return
	}
	counter := newCounter(p)
	eagerUntil := time.Now().Add(period)
	for {
		begin := time.Now()
		ok, message := a.check(ctx, p)
		if ctx.Err() != nil {
			return
		}
		pause := period - time.Since(begin)
		if !ok && time.Now().Before(eagerUntil) {
			pause = min(eagerInterval, time.Until(eagerUntil))
		} else {
			eagerUntil = begin
			if !ok {
				a.container.event(corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+message)
			}
			if verdict, reached := counter.observe(ok); reached {
				report(verdict)
			}
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep tells whether the whole pause went by.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// counter turns single results into verdicts by the probe's thresholds.
type counter struct {
	needSuccesses, needFailures int32
	last                        bool
	streak                      int32
}

func newCounter(p *corev1.Probe) *counter {
	return &counter{needSuccesses: max(p.SuccessThreshold, 1), needFailures: max(p.FailureThreshold, 1)}
}

// observe tells whether the result, after those before it, makes a verdict.
func (c *counter) observe(ok bool) (verdict, reached bool) {
	if ok != c.last {
		c.last, c.streak = ok, 0
	}
	c.streak++
	if ok {
		return true, c.streak >= c.needSuccesses
	}
	return false, c.streak >= c.needFailures
}

// check runs the probe once.
func (a *attempt) check(ctx context.Context, p *corev1.Probe) (bool, string) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	ip := a.podIP()
	switch {
	case p.HTTPGet != nil:
		return a.probeHTTP(p.HTTPGet, timeout)
	case p.TCPSocket != nil:
		port, err := a.port(p.TCPSocket.Port)
		if err != nil {
			return false, err.Error()
		}
		host := p.TCPSocket.Host
		if host == "" {
			host = ip
		}
		return outcome(tcpProber.Probe(host, port, timeout))
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return outcome(grpcProber.Probe(ip, service, int(p.GRPC.Port), timeout))
	case p.Exec != nil:
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if _, err := a.exec(ctx, p.Exec.Command); err != nil {
			return false, err.Error()
		}
		return true, ""
	default:
		return false, "the probe names no action"
	}
}

func (a *attempt) probeHTTP(action *corev1.HTTPGetAction, timeout time.Duration) (bool, string) {
	request, err := httpprobe.NewRequestForHTTPGetAction(action, a.container.spec, a.podIP(), "probe")
	if err != nil {
		return false, err.Error()
	}
	return outcome(httpProber.Probe(request, timeout))
}

func outcome(result probe.Result, message string, err error) (bool, string) {
	if err != nil {
		return false, err.Error()
	}
	return result == probe.Success || result == probe.Warning, message
}

func (a *attempt) podIP() string {
	w := a.container.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.net.IP.String()
}

// port resolves a number or the name of one of the container's ports.
func (a *attempt) port(port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for _, p := range a.container.spec.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	n, err := strconv.Atoi(port.StrVal)
	if err != nil {
		return 0, fmt.Errorf("container %s has no port named %q", a.container.spec.Name, port.StrVal)
	}
	return n, nil
}
