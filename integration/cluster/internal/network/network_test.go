package network

import (
	"net/netip"
	"testing"

	"kthena-router/integration/cluster/internal/topology"
)

func TestAllocateGoesRound(t *testing.T) {
	n := &Network{used: map[netip.Addr]bool{}, next: topology.FirstPodIP}
	take := func() string {
		ip, err := n.allocate()
		if err != nil {
			t.Fatal(err)
		}
		return ip.String()
	}
	if got := take(); got != "10.244.1.1" {
		t.Errorf("first: %s", got)
	}
	n.release(topology.FirstPodIP)
	if got := take(); got != "10.244.1.2" {
		t.Errorf("after a release: %s", got)
	}
	n.next = netip.MustParseAddr("10.244.1.255")
	if got := take(); got != "10.244.2.1" {
		t.Errorf("at the end of a byte: %s", got)
	}
	n.next = topology.LastPodIP
	if got := take(); got != "10.244.249.254" {
		t.Errorf("last: %s", got)
	}
	if got := take(); got != "10.244.1.1" {
		t.Errorf("after the last: %s", got)
	}
}

func TestAllocateEnds(t *testing.T) {
	n := &Network{used: map[netip.Addr]bool{}, next: topology.FirstPodIP}
	count := 0
	for {
		if _, err := n.allocate(); err != nil {
			break
		}
		if count++; count > 1<<16 {
			t.Fatal("the range never ends")
		}
	}
	if want := 249 * 254; count != want {
		t.Errorf("%d addresses, want %d", count, want)
	}
}
