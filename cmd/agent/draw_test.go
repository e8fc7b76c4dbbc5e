package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
)

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestDrawing(t *testing.T) {
	mac := func(s string) identity.MAC {
		m, err := identity.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := View{
		Seen: &network.State{
			Wired: true, Attached: true,
			Names: network.Names{Interface: "eth0", NIC: "eth0-nic", Bridge: "eth0-br", Tap: "tap0"},
			Current: &network.Snapshot{Links: []network.Link{
				{Role: network.NIC, Name: "eth0-nic", MAC: mac("7a:23:06:28:d6:14"), MTU: 1500, Up: true},
				{Role: network.Tap, Name: "tap0", MAC: mac("16:8e:c0:6c:6a:7f"), MTU: 1500},
			}},
		},
		Report: &Report{
			Phase:  PhaseReady,
			Domain: &Domain{Name: "vm", State: "running"},
			Timeline: Timeline{
				{EventStarted, at, 0}, {EventLease, at.Add(6775 * time.Millisecond), 6775},
			},
			Interfaces: []InterfaceReport{{
				Name: "eth0", MAC: mac("56:ec:8e:d9:9d:06"), MTU: 1500,
				Lease: dhcp.Lease{State: dhcp.LeaseBound, Since: at},
				Offer: &dhcp.Offer{
					Address: mustPrefix("10.244.1.2/32"), Gateway: netip.MustParseAddr("10.244.1.1"), Hostname: "vm-0",
					Routes: []identity.Route{
						{Destination: mustPrefix("10.244.1.1/32")},
						{Destination: mustPrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.244.1.1")},
					},
					DNS:    []netip.Addr{netip.MustParseAddr("10.96.0.10")},
					Search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
				},
				Warnings: []string{"eth0-br is missing, and this is a warning that is so long that it does not fit into one line of 80 columns"},
			}},
		},
	}
	const want = `eth0: ready, the guest has 10.244.1.2

  pod network
      │
  eth0-nic   7a:23:06:28:d6:14  up   mtu 1500
      │
  eth0-br    is missing
      │
  tap0       16:8e:c0:6c:6a:7f  DOWN mtu 1500  guest attached
      │
  guest vm (running)
             56:ec:8e:d9:9d:06  mtu 1500
             10.244.1.2/32  gateway 10.244.1.1
             route 10.244.1.1/32
             route 0.0.0.0/0 via 10.244.1.1
             dns 10.96.0.10  search default.svc.cluster.local svc.cluster.loc...
             hostname vm-0
             lease bound since 03:04:05 UTC

         0.0 ms  started
      6775.0 ms  lease
warning: eth0-br is missing, and this is a warning that is so long that it does
         not fit into one line of 80 columns
`
	var b strings.Builder
	if err := Draw(&b, v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
