package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"kthena-router/integration/cluster/internal/topology"
)

// Pod is the network of one pod. The namespace lives as long as the descriptor
// is open or a process is in it.
type Pod struct {
	IP netip.Addr
	ns netns.NsHandle

	mu sync.Mutex
	// ranges are the routes that AnyIP added in the rig.
	ranges []*netlink.Route
}

// NamespaceFD is the descriptor of the pod's network namespace.
func (p *Pod) NamespaceFD() int { return int(p.ns) }

// AddPod makes a network namespace with an address of its own on the bridge.
func (n *Network) AddPod() (*Pod, error) {
	ip, err := n.allocate()
	if err != nil {
		return nil, err
	}
	ns, err := newNamespace()
	if err != nil {
		n.release(ip)
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	pod := &Pod{IP: ip, ns: ns}
	if err := n.connect(pod); err != nil {
		return nil, errors.Join(fmt.Errorf("connect pod network %s: %w", ip, err), n.RemovePod(pod))
	}
	return pod, nil
}

// RemovePod releases everything that AddPod and the tests' interventions made.
// The kernel removes the link with the namespace.
func (n *Network) RemovePod(pod *Pod) error {
	errs := []error{n.Partition(pod, false)}
	pod.mu.Lock()
	for _, route := range pod.ranges {
		// Another pod may have taken the range over meanwhile.
		if err := netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %s: %w", route.Dst, err))
		}
	}
	pod.mu.Unlock()
	n.release(pod.IP)
	return errors.Join(append(errs, pod.ns.Close())...)
}

// newNamespace makes a namespace on a thread that is thrown away, since a Go
// thread that has changed its namespace must not run anything else.
func newNamespace() (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.New()
		if err == nil {
			err = errors.Join(
				// A container without capabilities serves on port 80, too.
				writeSysctl("net/ipv4/ip_unprivileged_port_start", "0"),
				writeSysctl("net/ipv4/conf/all/rp_filter", "0"),
				writeSysctl("net/core/somaxconn", "4096"),
			)
		}
		done <- result{ns, err}
	}()
	made := <-done
	return made.ns, made.err
}

func (n *Network) connect(pod *Pod) error {
	// Names of links have at most 15 characters; the address is unique.
	octets := pod.IP.As4()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "veth" + strconv.Itoa(int(octets[2])) + "-" + strconv.Itoa(int(octets[3]))
	attributes.MasterIndex = n.bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s: %w", attributes.Name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("bring up link %s: %w", attributes.Name, err)
	}
	inside, err := netlink.NewHandleAt(pod.ns)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer inside.Close()
	return configure(inside, pod.IP)
}

// configure sets up the pod's side: loopback, address and default route.
func configure(inside *netlink.Handle, ip netip.Addr) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	eth, err := inside.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	pods, err := parseCIDR(topology.PodCIDR)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: pods.Mask}}
	if err := inside.AddrAdd(eth, address); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return fmt.Errorf("bring up eth0: %w", err)
	}
	if err := inside.RouteAdd(&netlink.Route{Gw: net.ParseIP(topology.HostIP)}); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}

// Partition cuts the pod off from the API server's main port, or joins it again.
// Packets are dropped in both directions, so that both sides see silence also on
// established connections; all other traffic of the pod goes on.
func (n *Network) Partition(pod *Pod, on bool) error {
	for _, rule := range partitionRules(pod) {
		if err := netlink.RuleDel(rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("join %s: %w", pod.IP, err)
		}
		if !on {
			continue
		}
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("partition %s: %w", pod.IP, err)
		}
	}
	return nil
}

// partitionRules match what arrives from the pod and what is about to leave for
// it. Routing rules are the one way to drop packets that every kernel has.
func partitionRules(pod *Pod) []*netlink.Rule {
	podNet, host := hostNet(pod.IP.AsSlice()), hostNet(net.ParseIP(topology.HostIP).To4())
	port := netlink.NewRulePortRange(topology.APIServerPort, topology.APIServerPort)
	in, out := netlink.NewRule(), netlink.NewRule()
	in.Src, in.Dst, in.Dport = podNet, host, port
	out.Src, out.Dst, out.Sport = host, podNet, port
	for _, rule := range []*netlink.Rule{in, out} {
		rule.Family = unix.AF_INET
		rule.Priority = partitionPriority
		rule.IPProto = unix.IPPROTO_TCP
		rule.Type = unix.RTN_BLACKHOLE
	}
	return []*netlink.Rule{in, out}
}

// AnyIP makes the pod answer to every address of the range, for tests that need
// thousands of backends but not thousands of processes.
func (n *Network) AnyIP(pod *Pod, cidr string) error {
	inside, err := netlink.NewHandleAt(pod.ns)
	if err != nil {
		return fmt.Errorf("open namespace of %s: %w", pod.IP, err)
	}
	defer inside.Close()
	local, err := localRoute(inside.LinkByName, cidr)
	if err != nil {
		return err
	}
	if err := inside.RouteReplace(local); err != nil {
		return fmt.Errorf("give %s to %s: %w", cidr, pod.IP, err)
	}
	via := &netlink.Route{LinkIndex: n.bridge.Attrs().Index, Dst: local.Dst, Gw: pod.IP.AsSlice()}
	if err := netlink.RouteReplace(via); err != nil {
		return fmt.Errorf("route %s to %s: %w", cidr, pod.IP, err)
	}
	pod.mu.Lock()
	defer pod.mu.Unlock()
	pod.ranges = append(pod.ranges, via)
	return nil
}

func hostNet(ip net.IP) *net.IPNet {
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}
}

// allocate goes round the range instead of taking the lowest free address, so
// that the address of a deleted pod does not come back while somebody may still
// remember it.
func (n *Network) allocate() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for start := n.next; ; {
		ip := n.next
		n.next = ip.Next()
		if topology.LastPodIP.Less(n.next) {
			n.next = topology.FirstPodIP
		}
		if octet := ip.As4()[3]; !n.used[ip] && octet != 0 && octet != 255 {
			n.used[ip] = true
			return ip, nil
		}
		if n.next == start {
			return netip.Addr{}, errors.New("no pod address is left")
		}
	}
}

func (n *Network) release(ip netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, ip)
}
