package network

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// TestRoutersKeepThePodsAddressWhileRedirected has a router advertise a prefix for 12 seconds at a time, and the pod's link
// redirected for 30: nobody would ask for another advertisement, since the link never goes down.
func TestRoutersKeepThePodsAddressWhileRedirected(t *testing.T) {
	t.Parallel()
	const lifetime = 12 // seconds
	p := newTestPod(t, shapes["bridge"]...)
	p.settle()
	p.binding = plan.BindingRedirect
	router, everybody, prefix := netip.MustParseAddr("fe80::858:aff:fef4:101"), netip.MustParseAddr("ff02::1"), netip.MustParsePrefix("2001:db8:7::/64")
	frame := ethernet(identity.MAC{0x33, 0x33, 0, 0, 0, 1}, nodeMAC, unix.ETH_P_IPV6,
		ipv6Packet(unix.IPPROTO_ICMPV6, router, everybody, routerAdvertisementFor(lifetime, router, everybody, prefix)))
	node := p.nodePort()
	has := func() bool {
		return strings.Contains(p.ip("-6 addr show dev eth0 scope global -tentative"), "2001:db8:7:0:858:aff:fef4:105/64") &&
			strings.Contains(p.ip("-6 route show default"), "proto ra")
	}
	var said time.Time
	advertise := func() {
		t.Helper()
		said = time.Now()
		if err := node.send(frame); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // a router's own time: what is tested is how long the kernel keeps what it said
	}
	// Of a router that was itself late, as on a machine that stood still, nothing need be kept.
	late := func() bool { return time.Since(said) >= lifetime*time.Second }
	for deadline := time.Now().Add(podtest.Patience); !has(); advertise() {
		if time.Now().After(deadline) {
			t.Fatal("the pod takes no address from the router")
		}
	}
	p.prepare()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); advertise() {
		if !has() && !late() {
			t.Fatal("the pod's address or its route has expired")
		}
		if again := p.prepare(); len(again.Steps) > 0 {
			t.Fatalf("prepare takes a lifetime for a change: %v", again.Steps)
		}
	}
	p.restore()
	if !has() && !late() {
		t.Error("the pod has not its address and its route back")
	}
}
