package trace

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/net/bpf"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/dhcp/internal/dhcptest"
	"github.com/podnic/podnic/network/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden text anew")

const everybody = dhcptest.Everybody

// What dhcptest has, by short names.
var (
	guestMAC, serverMAC, otherMAC  = dhcptest.GuestMAC, dhcptest.ServerMAC, dhcptest.OtherMAC
	udhcpc, dhclient               = dhcptest.Udhcpc, dhcptest.Dhclient
	addr                           = dhcptest.Addr
	bridgePod, awsPod, isolatedPod = dhcptest.BridgePod, dhcptest.AWSPod, dhcptest.IsolatedPod
	ask, seeds                     = dhcptest.Ask, dhcptest.Seeds
	withOption, withAddr           = dhcptest.WithOption, dhcptest.WithAddr
	withCiaddr, withParameters     = dhcptest.WithCiaddr, dhcptest.WithParameters
	fromGuest, arpFrame, edit      = dhcptest.FromGuest, dhcptest.ARPFrame, dhcptest.Edit
)

func mustOffer(t testing.TB, id identity.Identity, o dhcp.Settings) dhcp.Offer {
	t.Helper()
	offer, _, err := dhcp.NewOffer(id, o)
	if err != nil {
		t.Fatal(err)
	}
	return offer
}

func kernelVerdict(t *testing.T, program []bpf.RawInstruction, data []byte) bool {
	t.Helper()
	passes, err := dhcptest.KernelVerdict(program, data)
	if err != nil {
		t.Fatal(err)
	}
	return passes
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
