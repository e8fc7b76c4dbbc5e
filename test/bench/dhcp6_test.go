package bench

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/shapes/tap"
)

// dual are the names of servers of both families. dnsmasq serves IPv6 alone, with router advertisements, on a bridge that has
// a link-local address, no filter, and nobody else in the namespace with the guest's.
const dual = "-dual"

// newDualServers makes one of each kind.
func newDualServers(b *testing.B) (all []*dhcpServer) {
	b.Helper()
	kinds := []string{"podnic" + dual, "podnic-udp" + dual}
	if _, err := exec.LookPath("dnsmasq"); err == nil {
		kinds = append(kinds, "dnsmasq"+dual)
	}
	for _, name := range kinds {
		all = append(all, newDHCPServer(b, name))
	}
	return all
}

// dnsmasq6 is dnsmasq on the pod's bridge, for IPv6.
func (s *dhcpServer) dnsmasq6() {
	s.b.Helper()
	s.run("nft delete table bridge podnic-eth0\nip address flush dev eth0\nip link set eth0-br addrgenmode eui64\nip address add fe80::1/64 dev eth0-br nodad\nip address add "+
		s.pod.Gateway6.Next().Next().Next().String()+"/64 dev eth0-br nodad", nil)
	s.command = []string{
		"dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--user=root", "--pid-file=",
		"--port=0", "--interface=eth0-br", "--bind-interfaces", "--except-interface=lo", "--leasefile-ro", "--no-ping",
		"--dhcp-authoritative", "--quiet-dhcp6", "--quiet-ra", "--enable-ra",
		"--dhcp-range=" + s.pod.Address6.Masked().Addr().String() + ",static,64,infinite",
		"--dhcp-host=" + s.mac.String() + ",[" + s.pod.Address6.Addr().String() + "],vm-0,infinite",
		"--dhcp-option=option6:dns-server,[fd00:10:96::a]", "--dhcp-option=option6:domain-search,default.svc.cluster.local,svc.cluster.local,cluster.local",
	}
	s.says = "router advertisement on"
}

// exchange6 is SOLICIT to REPLY, as a guest would.
func (s *dhcpServer) exchange6() time.Duration {
	s.b.Helper()
	s.xid = (s.xid + 1) & 0xffffff
	began := time.Now()
	advertise := s.ask6(wire.Ask6(s.mac, wire.Solicit, s.xid, wire.Message6{}), wire.Advertise)
	s.xid = (s.xid + 1) & 0xffffff
	reply := s.ask6(wire.Ask6(s.mac, wire.Request6, s.xid, advertise), wire.Reply)
	took := time.Since(began)
	if reply.Gives != s.pod.Address6.Addr() {
		s.b.Fatalf("%s gave %s, and the pod's address is %s", s.name, reply.Gives, s.pod.Address6)
	}
	return took
}

// ask6 sends a message and waits for the answer to it. Whoever asks for the guest's MAC is answered.
func (s *dhcpServer) ask6(frame []byte, answer byte) (m wire.Message6) {
	s.b.Helper()
	s.until(frame, answer, func(frame []byte) (ok bool) {
		if m, ok = wire.Parse6(frame); ok && m.XID == s.xid && m.Kind == answer {
			m.Server = append([]byte(nil), m.Server...)
			return true
		}
		if here := wire.Neighbour(s.mac, frame); here != nil {
			s.send(here)
		}
		return false
	})
	return m
}

// BenchmarkDHCP6Exchange is SOLICIT to REPLY, in four messages, as BenchmarkDHCPExchange is of DHCP.
func BenchmarkDHCP6Exchange(b *testing.B) { exchanges(b, newDualServers(b), (*dhcpServer).exchange6) }

// BenchmarkDHCP6Rest is what a server of both families has in memory before the guest comes.
func BenchmarkDHCP6Rest(b *testing.B) { rests(b, newDualServers(b), 3*dhcpStart) }

// BenchmarkDHCP6Idle is what wakes it in a minute, when the advertisements of its start are over, and before the next one.
func BenchmarkDHCP6Idle(b *testing.B) {
	// Three advertisements are 16 s apart (RFC 4861, 6.2.4), and other clients than the guest are heard after a minute again.
	const silence, begin = time.Minute, 65 * time.Second
	all := newDualServers(b)
	for _, s := range all {
		s.start()
		s.plug()
		s.exchange6()
	}
	time.Sleep(begin)
	switches := make([]int64, len(all))
	for i, s := range all {
		switches[i] = -s.switches()
	}
	time.Sleep(silence) // this is what is measured
	for i, s := range all {
		switches[i] += s.switches()
		b.Run(s.name, func(b *testing.B) {
			b.ReportMetric(float64(switches[i]), "wakeups/min")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkUsable6 is from the link that comes up to an address that can be used and a default route, with systemd-networkd
// as the guest's client. Most of it is what duplicate address detection waits for.
func BenchmarkUsable6(b *testing.B) {
	need(b, "/lib/systemd/systemd-networkd")
	all := newDualServers(b)
	guests := make([]*pod.Namespace, len(all))
	for i, s := range all {
		s.start()
		guests[i] = s.networkd()
	}
	time.Sleep(dhcpStart)
	times := make([][]time.Duration, len(all))
	for i, reported := range all {
		b.Run(reported.name, func(b *testing.B) {
			rounds(b, all, len(times[i]), func() {
				for k, s := range inTurn(all) {
					times[k] = append(times[k], s.usable(guests[k]))
				}
			})
			median(b, times[i])
		})
	}
}

// networkd starts systemd-networkd in a guest behind the server's tap.
func (s *dhcpServer) networkd() *pod.Namespace {
	s.b.Helper()
	guest, err := s.node.AddNamespace("guest")
	if err != nil {
		s.b.Fatal(err)
	}
	s.plug()
	var card *os.File
	err = guest.Do(func() (err error) {
		card, err = tap.Open("eth0")
		return err
	})
	if err == nil {
		_, err = guest.Output(s.b.Context(), "ip", "link", "set", "eth0", "address", s.mac.String())
	}
	if err != nil {
		s.b.Fatal(err)
	}
	go tap.Pump(s.tap, card)
	s.b.Cleanup(func() { card.Close() })
	dir := s.b.TempDir()
	network := filepath.Join(dir, "10-eth0.network")
	if err := os.WriteFile(network, []byte("[Match]\nName=eth0\n[Link]\nActivationPolicy=manual\n[Network]\nDHCP=no\nIPv6AcceptRA=yes\n"), 0o644); err != nil {
		s.b.Fatal(err)
	}
	// A /sys that cannot be written tells it that there is no udev to wait for.
	cmd := exec.CommandContext(context.Background(), "nsenter", "--net="+guest.Path, "--", "unshare", "--mount", "sh", "-e", "-c", `
mount -t tmpfs none /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
cp "$1" /run/systemd/network/
chown -R systemd-network /run/systemd/netif
mount -t sysfs -o ro sysfs /sys
exec /lib/systemd/systemd-networkd`, "sh", network)
	if err := cmd.Start(); err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return guest
}

// usable takes the guest's link down and up, and returns how long it took until the guest had its address and a route.
func (s *dhcpServer) usable(guest *pod.Namespace) (took time.Duration) {
	s.b.Helper()
	done := make(chan struct{})
	defer close(done)
	addresses, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	err := guest.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.LinkSetDown(link)
		}
		if err == nil {
			err = errors.Join(netlink.AddrSubscribe(addresses, done), netlink.RouteSubscribe(routes, done))
		}
		if err != nil {
			return err
		}
		began := time.Now()
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		timeout := time.After(patience)
		for address, route := false, false; !address || !route; {
			select {
			case a := <-addresses:
				ip, _ := netip.AddrFromSlice(a.LinkAddress.IP)
				address = address || a.NewAddr && ip == s.pod.Address6.Addr() && a.Flags&unix.IFA_F_TENTATIVE == 0
			case r := <-routes:
				ones := -1
				if r.Dst != nil {
					ones, _ = r.Dst.Mask.Size()
				}
				route = route || r.Type == unix.RTM_NEWROUTE && r.Gw != nil && r.Gw.To4() == nil && ones <= 0
			case <-timeout:
				return errors.New("no usable IPv6")
			}
		}
		took = time.Since(began)
		return nil
	})
	if err != nil {
		s.b.Fatalf("%s: %v", s.name, err)
	}
	return took
}
