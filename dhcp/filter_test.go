package dhcp

import (
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

func TestFilterWakesTheServerOnlyForItsGuest(t *testing.T) {
	const payload = link.EtherLen + link.IPLen + link.UDPLen
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
	renew := fromGuest(ask(dhcpv4.MessageTypeRequest, withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1")
	other := fromGuest(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr())), "0.0.0.0", everybody)
	// An IP header with options is longer.
	options := append(edit(discover[:link.EtherLen+link.IPLen:link.EtherLen+link.IPLen], link.EtherLen, 0x46), 1, 1, 1, 0)
	options = append(options, discover[link.EtherLen+link.IPLen:]...)

	everything, nothing := link.Watch{Address: true, Foreign: true}, link.Watch{}
	pod, subnet := bridgePod(), ptpPod()
	isolated := mustOffer(t, isolatedPod(), Settings{})
	aws := mustOffer(t, awsPod(), Settings{})
	whole := mustOffer(t, subnet, Settings{SubnetMask: MaskPod, GatewayMAC: otherMAC})
	plain := mustOffer(t, pod, Settings{})
	for _, tt := range []struct {
		name  string
		offer Offer
		watch link.Watch
		frame []byte
		want  bool
	}{
		{"discover", plain, nothing, discover, true},
		{"renewal by unicast", plain, nothing, renew, true},
		{"IP options", plain, nothing, options, true},
		{"BOOTP without cookie", plain, nothing, edit(discover, payload+v4.OffCookie, 0, 0, 0, 0), true},
		{"wrong cookie", plain, everything, edit(discover, payload+v4.OffCookie, 1), false},
		{"a reply", plain, everything, edit(discover, payload, v4.OpReply), false},
		{"not Ethernet", plain, everything, edit(discover, payload+1, 6), false},
		{"short hardware address", plain, everything, edit(discover, payload+2, 5), false},
		{"another MAC", plain, nothing, other, false},
		{"another MAC in its last byte", plain, nothing, edit(discover, payload+v4.OffChaddr+5, 6), false},
		{"another MAC while that is watched for", plain, link.Watch{Foreign: true}, other, true},
		{"first fragment", plain, everything, edit(discover, link.EtherLen+6, 0x20, 0), false},
		{"later fragment", plain, everything, edit(discover, link.EtherLen+6, 0, 1), false},
		{"don't fragment", plain, nothing, edit(discover, link.EtherLen+6, 0x40, 0), true},
		{"TCP", plain, everything, edit(discover, link.EtherLen+9, 6), false},
		{"another port", plain, everything, edit(discover, link.EtherLen+link.IPLen+3, 53), false},
		{"IPv6", plain, everything, edit(discover, 12, 0x86, 0xdd), false},
		{"a tag inside a tag", plain, everything, edit(discover, 12, 0x81, 0), false},
		{"truncated", plain, everything, discover[:payload+v4.OffCookie+2], false},
		{"nothing", plain, everything, []byte{0}, false},
		{"ARP nobody asked us for", plain, everything, arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "10.244.1.1"), false},
		{"ARP of the guest's address", plain, link.Watch{Address: true}, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1"), true},
		{"ARP reply of the guest's address", plain, link.Watch{Address: true}, arpFrame(link.ARPReply, guestMAC, "10.244.1.5", "10.244.1.1"), true},
		{"ARP of the guest's address by another", plain, link.Watch{Address: true}, arpFrame(link.ARPRequest, otherMAC, "10.244.1.5", "10.244.1.1"), false},
		{"ARP of the guest's address once seen", plain, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1"), false},
		{"ARP for the server", isolated, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", ServerLinkLocal), true},
		{"ARP reply to the server", isolated, nothing, arpFrame(link.ARPReply, guestMAC, "10.244.1.5", ServerLinkLocal), false},
		{"ARP for a permanent neighbour", aws, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "169.254.1.1"), true},
		{"ARP for its neighbour", aws, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "169.254.1.2"), false},
		{"ARP for the subnet", whole, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.200"), true},
		{"ARP for another subnet", whole, nothing, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.2.200"), false},
		{"ARP for the guest", whole, nothing, arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "10.244.1.5"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program, err := link.FrameFilter(tt.offer.service(guestMAC), tt.watch)
			if err != nil {
				t.Fatal(err)
			}
			if got := kernelVerdict(t, program, tt.frame); got != tt.want {
				t.Errorf("passes: %t, want %t", got, tt.want)
			}
		})
	}
	program, err := link.DatagramFilter(guestMAC, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if !kernelVerdict(t, program, discover[link.EtherLen+link.IPLen:]) || kernelVerdict(t, program, other[link.EtherLen+link.IPLen:]) {
		t.Error("the filter of the UDP socket mistakes the guest")
	}
}

func TestDamagedFramesAreCountedNotAnswered(t *testing.T) {
	const payload = link.EtherLen + link.IPLen + link.UDPLen
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
	resum := func(f []byte) []byte {
		f[link.EtherLen+10], f[link.EtherLen+11] = 0, 0
		sum := link.Checksum(0, f[link.EtherLen:link.EtherLen+link.IPLen])
		f[link.EtherLen+10], f[link.EtherLen+11] = byte(sum>>8), byte(sum)
		return f
	}
	noSum := func(f []byte) []byte { return edit(f, link.EtherLen+link.IPLen+6, 0, 0) }
	options := func(b ...byte) []byte { return noSum(edit(discover, payload+v4.OffOptions, b...)) }
	for _, tt := range []struct {
		name  string
		frame []byte
		sum   link.ChecksumState
		want  drop.Reason
	}{
		{"empty", nil, link.ChecksumFinished, drop.Truncated},
		{"only Ethernet", discover[:link.EtherLen], link.ChecksumFinished, drop.Truncated},
		{"half", discover[:200], link.ChecksumFinished, drop.Truncated},
		{"short message", resum(noSum(edit(edit(discover, link.EtherLen+2, 1, 0), link.EtherLen+link.IPLen+4, 0, 0xec)))[:link.EtherLen+256], link.ChecksumFinished, drop.Truncated},
		{"IPv6", edit(discover, 12, 0x86, 0xdd), link.ChecksumFinished, drop.NotForUs},
		{"version 6 in IPv4", edit(discover, link.EtherLen, 0x65), link.ChecksumFinished, drop.Malformed},
		{"header of 16 bytes", edit(discover, link.EtherLen, 0x44), link.ChecksumFinished, drop.Malformed},
		{"total length 0", edit(discover, link.EtherLen+2, 0, 0), link.ChecksumFinished, drop.Malformed},
		{"IP checksum", edit(discover, link.EtherLen+10, 1, 2), link.ChecksumFinished, drop.Checksum},
		{"UDP checksum", edit(discover, payload+v4.OffXID, 9), link.ChecksumFinished, drop.Checksum},
		{"fragment", resum(edit(discover, link.EtherLen+6, 0x20, 0)), link.ChecksumFinished, drop.Fragment},
		{"TCP", resum(edit(discover, link.EtherLen+9, 6)), link.ChecksumFinished, drop.NotForUs},
		{"UDP length", noSum(edit(discover, link.EtherLen+link.IPLen+4, 0xff, 0xff)), link.ChecksumFinished, drop.Malformed},
		{"option over the end", options(append([]byte{12, 255}, make([]byte, 50)...)...), link.ChecksumFinished, drop.Malformed},
		{"message type of two bytes", options(53, 2, 1, 1, 255), link.ChecksumFinished, drop.Malformed},
		{"server identifier of one byte", options(53, 1, 3, 54, 1, 1, 255), link.ChecksumFinished, drop.Malformed},
		{"overloaded file over the end", options(53, 1, 1, 52, 1, 1, 255), link.ChecksumFinished, ""},
		{"pending UDP checksum", edit(discover, link.EtherLen+link.IPLen+6, 1, 2), link.ChecksumPending, ""},
		{"no UDP checksum", noSum(discover), link.ChecksumFinished, ""},
		{"no end option", options(53, 1, 1, 0, 0, 0), link.ChecksumFinished, ""},
		{"VLAN inside VLAN", edit(discover, 12, 0x81, 0), link.ChecksumFinished, drop.NotForUs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := testHandler(t, bridgePod(), Settings{})
			reply := h.ethernet(tt.frame, tt.sum)
			if tt.want == "" && (reply == nil || len(h.stats.Dropped) != 0) {
				t.Errorf("not answered, dropped: %v", h.stats.Dropped)
			}
			if tt.want != "" && (reply != nil || h.stats.Dropped[string(tt.want)] != 1) {
				t.Errorf("want a drop as %s, got %v", tt.want, h.stats.Dropped)
			}
		})
	}
}
