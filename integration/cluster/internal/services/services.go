// Package services makes the addresses of Services work: it gives those of type
// LoadBalancer an address and forwards TCP connections to ready endpoints.
package services

import (
	"context"
	"log"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"kthena-router/integration/cluster/internal/mirror"
)

// Proxy follows Services and EndpointSlices.
type Proxy struct {
	client kubernetes.Interface
	events record.EventRecorder

	services *mirror.Mirror[*corev1.Service]
	slices   *mirror.Mirror[*discoveryv1.EndpointSlice]
	balancer *balancer

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
}

// New makes a proxy; Run starts it.
func New(client kubernetes.Interface, events record.EventRecorder, logger *log.Logger) *Proxy {
	p := &Proxy{client: client, events: events, listeners: map[netip.AddrPort]*listener{}}
	p.balancer = newBalancer(client, logger)
	p.services = mirror.New(p.serviceChanged)
	p.slices = mirror.New(p.sliceChanged)
	return p
}

// Run serves until the context ends and returns at once.
func (p *Proxy) Run(ctx context.Context) {
	follow := func(client cache.Getter, resource string) cache.ListerWatcher {
		return cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	}
	go p.balancer.run(ctx)
	go p.slices.Run(ctx, follow(p.client.DiscoveryV1().RESTClient(), "endpointslices"), &discoveryv1.EndpointSlice{})
	go p.services.Run(ctx, follow(p.client.CoreV1().RESTClient(), "services"), &corev1.Service{})
}

func (p *Proxy) serviceChanged(before, after *corev1.Service) {
	p.balancer.observe(before, after)
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := frontends(after)
	for address := range frontends(before) {
		if _, still := wanted[address]; !still {
			if l := p.listeners[address]; l != nil {
				l.close()
				delete(p.listeners, address)
			}
		}
	}
	for address, port := range wanted {
		if l := p.listeners[address]; l != nil && l.port == port {
			continue
		} else if l != nil {
			l.close()
		}
		l, err := listen(p, address, port)
		if err != nil {
			delete(p.listeners, address)
			p.events.Event(after, corev1.EventTypeWarning, "ListenFailed", err.Error())
			continue
		}
		p.listeners[address] = l
	}
}

// servicePort identifies a port of a Service in its EndpointSlices.
type servicePort struct {
	namespace, service, name string
}

// frontends are the addresses to listen on, with what each stands for.
func frontends(service *corev1.Service) map[netip.AddrPort]servicePort {
	found := map[netip.AddrPort]servicePort{}
	if service == nil {
		return found
	}
	addresses := append([]string{}, service.Spec.ClusterIPs...)
	if service.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			addresses = append(addresses, ingress.IP)
		}
	}
	for _, text := range addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil { // a headless Service has "None"
			continue
		}
		for _, port := range service.Spec.Ports {
			if port.Protocol == corev1.ProtocolTCP || port.Protocol == "" {
				found[netip.AddrPortFrom(ip, uint16(port.Port))] = servicePort{service.Namespace, service.Name, port.Name}
			}
		}
	}
	return found
}

// sliceChanged replaces what one slice contributes to its Service's backends.
func (p *Proxy) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := map[servicePort]bool{}
	for _, slice := range []*discoveryv1.EndpointSlice{before, after} {
		for port := range backends(slice) {
			changed[port] = true
		}
	}
	for _, l := range p.listeners {
		if changed[l.port] {
			l.set(p.backendsOf(l.port))
		}
	}
}

// backendsOf collects the ready endpoints of a port over all slices.
func (p *Proxy) backendsOf(port servicePort) []string {
	all := map[string]bool{}
	for _, slice := range p.slices.List(func(s *discoveryv1.EndpointSlice) bool {
		return s.Namespace == port.namespace && s.Labels[discoveryv1.LabelServiceName] == port.service
	}) {
		for _, address := range backends(slice)[port] {
			all[address] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// backends are the endpoints of a slice that are ready and not terminating, by
// port. A port without any is present, too.
func backends(slice *discoveryv1.EndpointSlice) map[servicePort][]string {
	found := map[servicePort][]string{}
	if slice == nil {
		return found
	}
	for _, port := range slice.Ports {
		if port.Port == nil || port.Protocol != nil && *port.Protocol != corev1.ProtocolTCP {
			continue
		}
		id := servicePort{namespace: slice.Namespace, service: slice.Labels[discoveryv1.LabelServiceName]}
		if port.Name != nil {
			id.name = *port.Name
		}
		found[id] = nil
		for _, endpoint := range slice.Endpoints {
			if !usable(endpoint.Conditions) {
				continue
			}
			for _, address := range endpoint.Addresses {
				found[id] = append(found[id], joinPort(address, int(*port.Port)))
			}
		}
	}
	return found
}

// usable reads the conditions, of which an absent one means the best.
func usable(c discoveryv1.EndpointConditions) bool {
	return (c.Ready == nil || *c.Ready) && (c.Terminating == nil || !*c.Terminating)
}

func joinPort(address string, port int) string {
	if ip, err := netip.ParseAddr(address); err == nil {
		return netip.AddrPortFrom(ip, uint16(port)).String()
	}
	return address + ":" + strconv.Itoa(port)
}
