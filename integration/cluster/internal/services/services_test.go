package services

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func service(kind corev1.ServiceType, ip, balanced string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc", UID: types.UID("uid of " + ip)},
		Spec: corev1.ServiceSpec{Type: kind, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
		}},
	}
	if balanced != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: balanced}}
	}
	return s
}

func TestFrontends(t *testing.T) {
	http := servicePort{"ns", "svc", "http"}
	tests := map[string]struct {
		service *corev1.Service
		want    []string
	}{
		"none":         {nil, nil},
		"cluster IP":   {service(corev1.ServiceTypeClusterIP, "10.96.0.7", ""), []string{"10.96.0.7:80"}},
		"headless":     {service(corev1.ServiceTypeClusterIP, "None", ""), nil},
		"balanced":     {service(corev1.ServiceTypeLoadBalancer, "10.96.0.7", "10.97.0.1"), []string{"10.96.0.7:80", "10.97.0.1:80"}},
		"was balanced": {service(corev1.ServiceTypeClusterIP, "10.96.0.7", "10.97.0.1"), []string{"10.96.0.7:80"}},
	}
	for name, test := range tests {
		got := frontends(test.service)
		if len(got) != len(test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
		for _, address := range test.want {
			if got[netip.MustParseAddrPort(address)] != http {
				t.Errorf("%s: %s is missing in %v", name, address, got)
			}
		}
	}
}

func TestBackends(t *testing.T) {
	yes, no, name, port := true, false, "http", int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		Ports:      []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.1.1"}},
			{Addresses: []string{"10.244.1.2"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			{Addresses: []string{"10.244.1.3"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Terminating: &yes}},
			{Addresses: []string{"10.244.1.4"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Terminating: &no}},
		},
	}
	got := backends(slice)[servicePort{"ns", "svc", "http"}]
	if want := []string{"10.244.1.1:8080", "10.244.1.4:8080"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRoundRobin(t *testing.T) {
	l := &listener{}
	if got := l.order(); got != nil {
		t.Errorf("without backends: %q", got)
	}
	l.set([]string{"a", "b", "c"})
	count := map[string]int{}
	for range 9 {
		order := l.order()
		count[order[0]]++
		slices.Sort(order)
		if !slices.Equal(order, []string{"a", "b", "c"}) {
			t.Errorf("not all backends are tried: %q", order)
		}
	}
	for backend, n := range count {
		if n != 3 {
			t.Errorf("%s was first %d times of 9", backend, n)
		}
	}
}

func TestAddresses(t *testing.T) {
	b := newBalancer(nil, nil)
	first, second := service(corev1.ServiceTypeLoadBalancer, "1", ""), service(corev1.ServiceTypeLoadBalancer, "2", "")
	address := func(s *corev1.Service) string {
		ingress, err := b.wanted(s)
		if err != nil {
			return err.Error()
		}
		if len(ingress) == 0 {
			return ""
		}
		return ingress[0].IP
	}
	if got := address(first); got != "10.97.0.1" {
		t.Errorf("first: %s", got)
	}
	if got := address(second); got != "10.97.0.2" {
		t.Errorf("second: %s", got)
	}
	if got := address(first); got != "10.97.0.1" {
		t.Errorf("first again: %s", got)
	}
	first.Spec.Type = corev1.ServiceTypeClusterIP
	if got := address(first); got != "" {
		t.Errorf("no longer balanced: %s", got)
	}
	wish := service(corev1.ServiceTypeLoadBalancer, "3", "")
	wish.Spec.LoadBalancerIP = "10.97.0.2"
	if _, err := b.wanted(wish); err == nil {
		t.Error("an address is given twice")
	}
	wish.Spec.LoadBalancerIP = "10.97.0.1"
	if got := address(wish); got != "10.97.0.1" {
		t.Errorf("released and asked for: %s", got)
	}
}
