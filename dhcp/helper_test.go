package dhcp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/bpf"

	"github.com/podnic/podnic/dhcp/internal/dhcptest"
	"github.com/podnic/podnic/network/identity"
)

// What dhcptest has, by short names.
const everybody = dhcptest.Everybody

var (
	guestMAC, serverMAC, otherMAC = dhcptest.GuestMAC, dhcptest.ServerMAC, dhcptest.OtherMAC
	udhcpc, dhclient, windows     = dhcptest.Udhcpc, dhcptest.Dhclient, dhcptest.Windows
	addr, addrs, prefix           = dhcptest.Addr, dhcptest.Addrs, dhcptest.Prefix
	via, onLink                   = dhcptest.Via, dhcptest.OnLink
	bridgePod, ptpPod, calicoPod  = dhcptest.BridgePod, dhcptest.PtpPod, dhcptest.CalicoPod
	awsPod, isolatedPod           = dhcptest.AWSPod, dhcptest.IsolatedPod
	ask, seeds                    = dhcptest.Ask, dhcptest.Seeds
	withOption, withText          = dhcptest.WithOption, dhcptest.WithText
	withAddr, withCiaddr          = dhcptest.WithAddr, dhcptest.WithCiaddr
	withParameters                = dhcptest.WithParameters
	fromGuest, arpFrame, edit     = dhcptest.FromGuest, dhcptest.ARPFrame, dhcptest.Edit
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var equateAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func mustOffer(t testing.TB, id identity.Identity, o Settings) Offer {
	t.Helper()
	offer, _, err := NewOffer(id, o)
	if err != nil {
		t.Fatal(err)
	}
	return offer
}

func testHandler(t testing.TB, id identity.Identity, o Settings) *handler {
	t.Helper()
	return newHandler(mustOffer(t, id, o), guestMAC, serverMAC, Lease{}, func() time.Time { return testTime })
}

func kernelVerdict(t *testing.T, program []bpf.RawInstruction, data []byte) bool {
	t.Helper()
	passes, err := dhcptest.KernelVerdict(program, data)
	if err != nil {
		t.Fatal(err)
	}
	return passes
}
