package dhcp

import (
	"errors"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// kernelVerdict asks the kernel: a filter on one end of a socket pair decides whether what the other end sends arrives.
// That needs no privilege, and shows what the kernel makes of the program, not what an emulator makes of it.
func kernelVerdict(t *testing.T, program []bpf.RawInstruction, data []byte) bool {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if err := attachFilter(fds[1], program); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fds[0], data); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	_, err = unix.Read(fds[1], make([]byte, 4096))
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	return err == nil
}

func arpFrame(op byte, mac [6]byte, sender, target string) []byte {
	f := append(broadcastMAC.HardwareAddr(), mac[:]...)
	f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op)
	f = append(append(f, mac[:]...), addr(sender).AsSlice()...)
	return append(append(f, make([]byte, 6)...), addr(target).AsSlice()...)
}

// edit returns a copy of the frame with some bytes replaced.
func edit(frame []byte, at int, b ...byte) []byte {
	f := append([]byte(nil), frame...)
	copy(f[at:], b)
	return f
}

func TestFilterWakesTheServerOnlyForItsGuest(t *testing.T) {
	const payload = etherLen + ipLen + udpLen
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
	renew := fromGuest(ask(dhcpv4.MessageTypeRequest, withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1")
	other := fromGuest(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr())), "0.0.0.0", everybody)
	// An IP header with options is longer.
	options := append(edit(discover[:etherLen+ipLen:etherLen+ipLen], etherLen, 0x46), 1, 1, 1, 0)
	options = append(options, discover[etherLen+ipLen:]...)

	everything, nothing := watch{address: true, foreign: true}, watch{}
	pod, subnet := bridgePod(), ptpPod()
	isolated := mustOffer(t, isolatedPod(), Options{})
	aws := mustOffer(t, awsPod(), Options{})
	whole := mustOffer(t, subnet, Options{SubnetMask: MaskPod, GatewayMAC: otherMAC})
	plain := mustOffer(t, pod, Options{})
	for _, tt := range []struct {
		name  string
		offer Offer
		watch watch
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
		{"another MAC while that is watched for", plain, watch{foreign: true}, other, true},
		{"first fragment", plain, everything, edit(discover, etherLen+6, 0x20, 0), false},
		{"later fragment", plain, everything, edit(discover, etherLen+6, 0, 1), false},
		{"don't fragment", plain, nothing, edit(discover, etherLen+6, 0x40, 0), true},
		{"TCP", plain, everything, edit(discover, etherLen+9, 6), false},
		{"another port", plain, everything, edit(discover, etherLen+ipLen+3, 53), false},
		{"IPv6", plain, everything, edit(discover, 12, 0x86, 0xdd), false},
		{"a tag inside a tag", plain, everything, edit(discover, 12, 0x81, 0), false},
		{"truncated", plain, everything, discover[:payload+v4.OffCookie+2], false},
		{"nothing", plain, everything, []byte{0}, false},
		{"ARP nobody asked us for", plain, everything, arpFrame(arpRequest, guestMAC, "0.0.0.0", "10.244.1.1"), false},
		{"ARP of the guest's address", plain, watch{address: true}, arpFrame(arpRequest, guestMAC, "10.244.1.5", "10.244.1.1"), true},
		{"ARP reply of the guest's address", plain, watch{address: true}, arpFrame(arpReply, guestMAC, "10.244.1.5", "10.244.1.1"), true},
		{"ARP of the guest's address by another", plain, watch{address: true}, arpFrame(arpRequest, otherMAC, "10.244.1.5", "10.244.1.1"), false},
		{"ARP of the guest's address once seen", plain, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", "10.244.1.1"), false},
		{"ARP for the server", isolated, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", ServerLinkLocal), true},
		{"ARP reply to the server", isolated, nothing, arpFrame(arpReply, guestMAC, "10.244.1.5", ServerLinkLocal), false},
		{"ARP for a permanent neighbour", aws, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", "169.254.1.1"), true},
		{"ARP for its neighbour", aws, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", "169.254.1.2"), false},
		{"ARP for the subnet", whole, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", "10.244.1.200"), true},
		{"ARP for another subnet", whole, nothing, arpFrame(arpRequest, guestMAC, "10.244.1.5", "10.244.2.200"), false},
		{"ARP for the guest", whole, nothing, arpFrame(arpRequest, guestMAC, "0.0.0.0", "10.244.1.5"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program, err := frameFilter(tt.offer.service(guestMAC), tt.watch)
			if err != nil {
				t.Fatal(err)
			}
			if got := kernelVerdict(t, program, tt.frame); got != tt.want {
				t.Errorf("passes: %t, want %t", got, tt.want)
			}
		})
	}
	program, err := datagramFilter(guestMAC, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if !kernelVerdict(t, program, discover[etherLen+ipLen:]) || kernelVerdict(t, program, other[etherLen+ipLen:]) {
		t.Error("the filter of the UDP socket mistakes the guest")
	}
}

func TestDamagedFramesAreCountedNotAnswered(t *testing.T) {
	const payload = etherLen + ipLen + udpLen
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
	resum := func(f []byte) []byte {
		f[etherLen+10], f[etherLen+11] = 0, 0
		sum := checksum(0, f[etherLen:etherLen+ipLen])
		f[etherLen+10], f[etherLen+11] = byte(sum>>8), byte(sum)
		return f
	}
	noSum := func(f []byte) []byte { return edit(f, etherLen+ipLen+6, 0, 0) }
	options := func(b ...byte) []byte { return noSum(edit(discover, payload+v4.OffOptions, b...)) }
	for _, tt := range []struct {
		name  string
		frame []byte
		sum   checksumState
		want  drop.Reason
	}{
		{"empty", nil, checksumFinished, drop.Truncated},
		{"only Ethernet", discover[:etherLen], checksumFinished, drop.Truncated},
		{"half", discover[:200], checksumFinished, drop.Truncated},
		{"short message", resum(noSum(edit(edit(discover, etherLen+2, 1, 0), etherLen+ipLen+4, 0, 0xec)))[:etherLen+256], checksumFinished, drop.Truncated},
		{"IPv6", edit(discover, 12, 0x86, 0xdd), checksumFinished, drop.NotForUs},
		{"version 6 in IPv4", edit(discover, etherLen, 0x65), checksumFinished, drop.Malformed},
		{"header of 16 bytes", edit(discover, etherLen, 0x44), checksumFinished, drop.Malformed},
		{"total length 0", edit(discover, etherLen+2, 0, 0), checksumFinished, drop.Malformed},
		{"IP checksum", edit(discover, etherLen+10, 1, 2), checksumFinished, drop.Checksum},
		{"UDP checksum", edit(discover, payload+v4.OffXID, 9), checksumFinished, drop.Checksum},
		{"fragment", resum(edit(discover, etherLen+6, 0x20, 0)), checksumFinished, drop.Fragment},
		{"TCP", resum(edit(discover, etherLen+9, 6)), checksumFinished, drop.NotForUs},
		{"UDP length", noSum(edit(discover, etherLen+ipLen+4, 0xff, 0xff)), checksumFinished, drop.Malformed},
		{"option over the end", options(append([]byte{12, 255}, make([]byte, 50)...)...), checksumFinished, drop.Malformed},
		{"message type of two bytes", options(53, 2, 1, 1, 255), checksumFinished, drop.Malformed},
		{"server identifier of one byte", options(53, 1, 3, 54, 1, 1, 255), checksumFinished, drop.Malformed},
		{"overloaded file over the end", options(53, 1, 1, 52, 1, 1, 255), checksumFinished, ""},
		{"pending UDP checksum", edit(discover, etherLen+ipLen+6, 1, 2), checksumPending, ""},
		{"no UDP checksum", noSum(discover), checksumFinished, ""},
		{"no end option", options(53, 1, 1, 0, 0, 0), checksumFinished, ""},
		{"VLAN inside VLAN", edit(discover, 12, 0x81, 0), checksumFinished, drop.NotForUs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := testHandler(t, bridgePod(), Options{})
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
