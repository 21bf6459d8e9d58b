// Package network makes the rig's and the pods' networks. Everything it touches
// lives in network namespaces that the rig made.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"kthena-router/integration/cluster/internal/topology"
)

// Priorities of the routing rules: a partition has to be decided before the
// kernel's own rule delivers a packet locally, so that rule is moved back.
const (
	partitionPriority = 10
	localPriority     = 1000
)

// Network hands out the pods' networks.
type Network struct {
	bridge netlink.Link

	mu   sync.Mutex
	used map[netip.Addr]bool
	next netip.Addr
}

// Setup makes the network of the rig, in whose new namespace it must run:
// loopback, the bridge, forwarding, and the ranges of the Services' addresses
// as local ones, so that a Service needs no address of its own to be bound.
func Setup() (*Network, error) {
	if err := checkIsolated(); err != nil {
		return nil, err
	}
	if err := linkUp("lo"); err != nil {
		return nil, err
	}
	bridge, err := addBridge()
	if err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", topology.BridgeName, err)
	}
	if err := moveLocalRule(); err != nil {
		return nil, fmt.Errorf("move rule of local addresses: %w", err)
	}
	for _, cidr := range []string{topology.ClusterIPCIDR, topology.LoadBalancerCIDR} {
		if err := addLocalRange(cidr); err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		writeSysctl("net/ipv4/ip_forward", "1"),
		writeSysctl("net/ipv4/conf/all/rp_filter", "0"),
		writeSysctl("net/ipv4/conf/"+topology.BridgeName+"/rp_filter", "0"),
		writeSysctl("net/ipv4/conf/all/send_redirects", "0"),
		writeSysctl("net/ipv4/conf/"+topology.BridgeName+"/send_redirects", "0"),
		writeSysctl("net/ipv4/ip_local_port_range", "10000 65535"),
		writeSysctl("net/core/somaxconn", "4096"),
	)
	if err != nil {
		return nil, err
	}
	return &Network{bridge: bridge, used: map[netip.Addr]bool{}, next: topology.FirstPodIP}, nil
}

// checkIsolated makes sure that nothing here is ever done to the machine's own
// network: a new namespace has a loopback that is down and nothing that is up.
func checkIsolated() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if link.Attrs().Flags&net.FlagUp != 0 {
			return fmt.Errorf("link %s is up: this is not a new network namespace", link.Attrs().Name)
		}
	}
	return nil
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up link %s: %w", name, err)
	}
	return nil
}

func addBridge() (netlink.Link, error) {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: topology.BridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, err
	}
	pods, err := parseCIDR(topology.PodCIDR)
	if err != nil {
		return nil, err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(topology.HostIP), Mask: pods.Mask}}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return nil, err
	}
	return bridge, netlink.LinkSetUp(bridge)
}

func moveLocalRule() error {
	rule := netlink.NewRule()
	rule.Family = unix.AF_INET
	rule.Table = unix.RT_TABLE_LOCAL
	rule.Priority = localPriority
	if err := netlink.RuleAdd(rule); err != nil {
		return err
	}
	original := netlink.NewRule()
	original.Family = unix.AF_INET
	original.Table = unix.RT_TABLE_LOCAL
	original.Priority = 0
	return netlink.RuleDel(original)
}

// addLocalRange makes every address of the range one of this namespace.
func addLocalRange(cidr string) error {
	route, err := localRoute(netlink.LinkByName, cidr)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("add local range %s: %w", cidr, err)
	}
	return nil
}

func localRoute(linkByName func(string) (netlink.Link, error), cidr string) (*netlink.Route, error) {
	destination, err := parseCIDR(cidr)
	if err != nil {
		return nil, err
	}
	lo, err := linkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find link lo: %w", err)
	}
	return &netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       destination,
		Type:      unix.RTN_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Table:     unix.RT_TABLE_LOCAL,
	}, nil
}

func parseCIDR(cidr string) (*net.IPNet, error) {
	_, parsed, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil, fmt.Errorf("range %q: %w", cidr, err)
	}
	return parsed, nil
}

// writeSysctl sets a value in the network namespace of the calling thread.
func writeSysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}
