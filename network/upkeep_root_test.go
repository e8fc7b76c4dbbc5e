package network

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// TestRoutersKeepThePodsAddressWhileRedirected has a router advertise a prefix for 12 seconds at a time, and the pod's link
// redirected for 30: nobody would ask for another advertisement, since the link never goes down.
func TestRoutersKeepThePodsAddressWhileRedirected(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["bridge"]...)
	p.settle()
	p.binding = plan.BindingRedirect
	router, everybody, prefix := netip.MustParseAddr("fe80::858:aff:fef4:101"), netip.MustParseAddr("ff02::1"), netip.MustParsePrefix("2001:db8:7::/64")
	frame := ethernet(identity.MAC{0x33, 0x33, 0, 0, 0, 1}, nodeMAC, unix.ETH_P_IPV6,
		ipv6Packet(unix.IPPROTO_ICMPV6, router, everybody, routerAdvertisementFor(12, router, everybody, prefix)))
	node := p.nodePort()
	has := func() bool {
		return strings.Contains(p.ip("-6 addr show dev eth0 scope global -tentative"), "2001:db8:7:0:858:aff:fef4:105/64") &&
			strings.Contains(p.ip("-6 route show default"), "proto ra")
	}
	advertise := func() {
		t.Helper()
		if err := node.send(frame); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // a router's own time: what is tested is how long the kernel keeps what it said
	}
	for deadline := time.Now().Add(10 * time.Second); !has(); advertise() {
		if time.Now().After(deadline) {
			t.Fatal("the pod takes no address from the router")
		}
	}
	p.prepare()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); advertise() {
		if !has() {
			t.Fatal("the pod's address or its route has expired")
		}
		if again := p.prepare(); len(again.Steps) > 0 {
			t.Fatalf("prepare takes a lifetime for a change: %v", again.Steps)
		}
	}
	p.restore()
	if !has() {
		t.Error("the pod has not its address and its route back")
	}
}
