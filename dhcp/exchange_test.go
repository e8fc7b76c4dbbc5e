package dhcp

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

var update = flag.Bool("update", false, "write the golden exchanges anew")

func boot() Settings {
	return Settings{TFTPServer: "10.244.1.69", BootFiles: []BootFile{{File: "boot/ipxe.efi"}}}
}

// TestExchanges compares what is answered to each message with testdata/exchanges/*.txt: the request, the reply, and what
// the server says of it. Each exchange is a conversation with a server of its own.
func TestExchanges(t *testing.T) {
	arp := func(op byte, sender, target string) []byte {
		f := append(link.BroadcastMAC.HardwareAddr(), guestMAC[:]...)
		f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op)
		f = append(append(f, guestMAC[:]...), addr(sender).AsSlice()...)
		return append(append(f, make([]byte, 6)...), addr(target).AsSlice()...)
	}
	bcast := func(request []byte) []byte { return fromGuest(request, "0.0.0.0", everybody) }
	bootp := func(modify ...dhcpv4.Modifier) []byte {
		m := ask(dhcpv4.MessageTypeNone, modify...)
		return bcast(m)
	}
	noType := func(m *dhcpv4.DHCPv4) { m.Options.Del(dhcpv4.OptionDHCPMessageType) }
	for _, tt := range []struct {
		name    string
		id      identity.Identity
		options Settings
		frames  [][]byte
	}{
		{"discover and request", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...), withOption(61, 1, 2, 3))),
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(dhclient...), withOption(61, 1, 2, 3), withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1"))),
		}},
		{"broadcast flag", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(udhcpc...), dhcpv4.WithBroadcast(true))),
		}},
		{"no parameter list", bridgePod(), boot(), [][]byte{bcast(ask(dhcpv4.MessageTypeDiscover))}},
		{"gateway off the subnet and 121 not asked for", ptpPod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(3, 1))),
		}},
		{"windows asks for 249", calicoPod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(windows...))),
		}},
		{"rapid commit", bridgePod(), Settings{LeaseTime: 30 * time.Second}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(udhcpc...), withOption(80))),
		}},
		{"client identifier and option 82 are repeated", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(61, 1, 2, 3), withOption(82, 1, 1, 7))),
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withOption(61, 1, 2, 3), withOption(82, 1, 1, 7), withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1"))),
			fromGuest(ask(dhcpv4.MessageTypeInform, withParameters(1), withOption(61, 1, 2, 3), withOption(82, 1, 1, 7), withCiaddr("10.244.1.5")), "10.244.1.5", everybody),
		}},
		{"another server was chosen", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1))),
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withAddr(50, "10.9.9.9"), withAddr(54, "10.9.9.1"))),
		}},
		{"init-reboot with the address", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1, 3), withAddr(50, "10.244.1.5"))),
		}},
		{"init-reboot with a stale address", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1, 3), withAddr(50, "10.244.1.6"), withOption(61, 1, 2, 3), withOption(82, 1, 1, 7))),
		}},
		{"selecting a wrong address", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withAddr(50, "10.244.1.6"), withAddr(54, "10.244.1.1"))),
		}},
		{"renewing by unicast", bridgePod(), Settings{LeaseTime: 30 * time.Second}, [][]byte{
			fromGuest(ask(dhcpv4.MessageTypeRequest, withParameters(1, 3), withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1"),
		}},
		{"rebinding by broadcast with a stale address", bridgePod(), Settings{LeaseTime: 30 * time.Second}, [][]byte{
			fromGuest(ask(dhcpv4.MessageTypeRequest, withParameters(1, 3), withCiaddr("10.244.9.9")), "10.244.9.9", everybody),
		}},
		{"inform", bridgePod(), Settings{LeaseTime: 30 * time.Second}, [][]byte{
			fromGuest(ask(dhcpv4.MessageTypeInform, withParameters(6, 15, 51), withCiaddr("10.244.1.5")), "10.244.1.5", everybody),
		}},
		{"inform without ciaddr", bridgePod(), Settings{}, [][]byte{
			fromGuest(ask(dhcpv4.MessageTypeInform, withParameters(252, 6)), "10.244.1.5", everybody),
		}},
		{"decline", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withAddr(50, "10.244.1.5"))),
			bcast(ask(dhcpv4.MessageTypeDecline, withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1"))),
		}},
		{"decline without the address", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(80))),
			bcast(ask(dhcpv4.MessageTypeDecline, withAddr(54, "10.244.1.1"))),
			bcast(ask(dhcpv4.MessageTypeDecline, withAddr(54, "10.244.1.1"), withAddr(50, "10.244.1.6"))),
		}},
		{"an offer to a bound guest", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withAddr(50, "10.244.1.5"))),
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1))),
		}},
		{"release", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withAddr(50, "10.244.1.5"))),
			fromGuest(ask(dhcpv4.MessageTypeRelease, withCiaddr("10.244.1.5"), withAddr(54, "10.244.1.1")), "10.244.1.5", "10.244.1.1"),
		}},
		{"bootp", ptpPod(), boot(), [][]byte{bootp(noType)}},
		{"bootp with room for every option", ptpPod(), boot(), [][]byte{
			bcast(append(ask(dhcpv4.MessageTypeNone, noType), make([]byte, 400)...)),
		}},
		{"boot firmware", bridgePod(), boot(), [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 66, 67), withOption(57, 0x05, 0xc0), withOption(97, 0, 1, 2), dhcpv4.WithBroadcast(true))),
		}},
		{"boot files by client", ptpPod(), Settings{TFTPServer: "10.244.9.69", GatewayMAC: otherMAC, BootFiles: []BootFile{
			{File: "other.0"}, {File: "ipxe.efi", Architectures: []uint16{7, 9}}, {File: "http://10.244.9.69/boot.ipxe", UserClass: "iPXE"},
			{File: "http://10.244.9.69/uefi.efi", Architectures: []uint16{16}},
		}}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67), withText(60, "PXEClient:Arch:00007:UNDI:003001"), withOption(93, 0, 7))),
			// The iPXE that was loaded, which says what it is besides its architecture.
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67, 175), withText(60, "PXEClient:Arch:00007:UNDI:003010"), withOption(93, 0, 7), withText(77, "iPXE"))),
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67), withText(60, "HTTPClient:Arch:00016:UNDI:003001"), withOption(93, 0, 16))),
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67), withText(60, "PXEClient:Arch:00000:UNDI:002001"), withOption(93, 0, 0))),
			// The system: no firmware, so that it has the mask with which it reaches what the pod did.
			bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1, 3, 121), withAddr(50, "10.244.1.5"))),
			arp(link.ARPRequest, "10.244.1.5", "10.244.1.77"),
			arp(link.ARPRequest, "10.244.1.5", "10.244.1.1"),
		}},
		{"ipxe under a gateway outside of every mask", calicoPod(), boot(), [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67, 175), withText(77, "iPXE"), withOption(93, 0, 0))),
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 67), withText(60, "PXEClient:Arch:00007:UNDI:003001"), withOption(93, 0, 7))),
		}},
		{"no default route", isolatedPod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3))),
			arp(link.ARPRequest, "10.244.1.5", "169.254.75.10"),
			fromGuest(ask(dhcpv4.MessageTypeRequest, withParameters(1), withCiaddr("10.244.1.5")), "10.244.1.5", "169.254.75.10"),
		}},
		{"arp for a permanent neighbour", awsPod(), Settings{}, [][]byte{arp(link.ARPRequest, "0.0.0.0", "169.254.1.1")}},
		{"arp for the subnet but never for the guest", ptpPod(), Settings{SubnetMask: MaskPod, GatewayMAC: otherMAC}, [][]byte{
			arp(link.ARPRequest, "0.0.0.0", "10.244.1.5"),
			arp(link.ARPRequest, "10.244.1.5", "10.244.1.5"),
			arp(link.ARPRequest, "10.244.1.5", "10.244.1.77"),
			arp(link.ARPRequest, "10.244.1.5", "10.244.2.1"),
		}},
		{"too many options for the message", bridgePod(), Settings{
			Search: strings.Fields(strings.Repeat("x", 60) + ".example " + strings.Repeat("y", 60) + ".example " + strings.Repeat("z", 50) + ".example"),
			Extra:  []Option{{224, []byte(strings.Repeat("e", 120))}},
		}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 3, 6, 28, 224, 119, 15, 12))),
		}},
		{"an option of more than 255 bytes", bridgePod(), Settings{Extra: []Option{{224, []byte(strings.Repeat("e", 300))}}}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 224))),
			bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 224), withOption(57, 0x05, 0xc0))),
		}},
		{"not answered", bridgePod(), Settings{}, [][]byte{
			bcast(ask(dhcpv4.MessageTypeOffer)),
			bcast(ask(dhcpv4.MessageTypeRequest)),
			bcast(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(addr("10.244.1.9").AsSlice()))),
			bcast(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr()))),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := testHandler(t, tt.id, tt.options)
			var b strings.Builder
			for _, request := range tt.frames {
				b.WriteString("guest  " + render(request))
				reply := h.ethernet(request, link.ChecksumFinished)
				if reply != nil {
					b.WriteString("server " + render(reply))
				}
				for _, e := range h.takeEvents() {
					b.WriteString("event  " + renderEvent(e) + "\n")
				}
				for reason := range h.stats.Dropped {
					b.WriteString("drop   " + reason + "\n")
				}
				clear(h.stats.Dropped)
				b.WriteString("\n")
			}
			golden(t, filepath.Join("testdata", "exchanges", strings.ReplaceAll(tt.name, " ", "-")+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
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
