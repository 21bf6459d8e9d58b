package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"kthena-router/integration/cluster/internal/topology"
)

// retryWrite is how soon a status that the API server did not take is tried
// again.
const retryWrite = 200 * time.Millisecond

// balancer gives Services of type LoadBalancer their addresses.
type balancer struct {
	client kubernetes.Interface
	log    *log.Logger
	wake   chan struct{}

	mu      sync.Mutex
	held    map[types.UID]netip.Addr
	pending map[types.UID]*corev1.Service
}

func newBalancer(client kubernetes.Interface, logger *log.Logger) *balancer {
	return &balancer{
		client:  client,
		log:     logger,
		wake:    make(chan struct{}, 1),
		held:    map[types.UID]netip.Addr{},
		pending: map[types.UID]*corev1.Service{},
	}
}

// observe takes in a change of a Service.
func (b *balancer) observe(before, after *corev1.Service) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after == nil {
		delete(b.held, before.UID)
		delete(b.pending, before.UID)
		return
	}
	b.pending[after.UID] = after
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *balancer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		for b.writeAll(ctx) > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryWrite):
			}
		}
	}
}

// writeAll brings all pending Services' statuses up to date and returns how
// many could not be written.
func (b *balancer) writeAll(ctx context.Context) int {
	b.mu.Lock()
	pending := b.pending
	b.pending = map[types.UID]*corev1.Service{}
	b.mu.Unlock()
	failed := 0
	for uid, service := range pending {
		wanted, err := b.wanted(service)
		if err == nil {
			err = b.write(ctx, service, wanted)
		}
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue
		}
		failed++
		b.log.Printf("address of service %s/%s: %v", service.Namespace, service.Name, err)
		b.mu.Lock()
		if _, newer := b.pending[uid]; !newer {
			b.pending[uid] = service
		}
		b.mu.Unlock()
	}
	return failed
}

// wanted returns the addresses that the Service should have. One that it
// already shows is kept.
func (b *balancer) wanted(service *corev1.Service) ([]corev1.LoadBalancerIngress, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		delete(b.held, service.UID)
		return nil, nil
	}
	if service.Spec.LoadBalancerClass != nil {
		return service.Status.LoadBalancer.Ingress, nil
	}
	address, found := b.held[service.UID]
	if !found {
		var err error
		if address, err = b.choose(service.Spec.LoadBalancerIP); err != nil {
			return nil, err
		}
		b.held[service.UID] = address
	}
	return []corev1.LoadBalancerIngress{{IP: address.String()}}, nil
}

// choose returns the address that was asked for, or else the lowest free one.
func (b *balancer) choose(requested string) (netip.Addr, error) {
	used := map[netip.Addr]bool{}
	for _, address := range b.held {
		used[address] = true
	}
	pool := netip.MustParsePrefix(topology.LoadBalancerCIDR)
	if requested != "" {
		address, err := netip.ParseAddr(requested)
		if err != nil || !pool.Contains(address) || used[address] {
			return netip.Addr{}, fmt.Errorf("loadBalancerIP %q is not a free address of %s", requested, pool)
		}
		return address, nil
	}
	for address := pool.Addr().Next(); pool.Contains(address.Next()); address = address.Next() {
		if !used[address] {
			return address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %s is left", pool)
}

func (b *balancer) write(ctx context.Context, service *corev1.Service, wanted []corev1.LoadBalancerIngress) error {
	sameIP := func(a, b corev1.LoadBalancerIngress) bool { return a.IP == b.IP }
	if slices.EqualFunc(service.Status.LoadBalancer.Ingress, wanted, sameIP) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": service.UID},
		"status":   map[string]any{"loadBalancer": map[string]any{"ingress": wanted}},
	})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = b.client.CoreV1().Services(service.Namespace).Patch(ctx, service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
