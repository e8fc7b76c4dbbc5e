package podtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
)

// Solicit asks for a neighbour with a frame of its own (RFC 4861, 4.3) and returns the MAC of the advertisement that answers,
// again and again: a guest does not answer for an address that it is still detecting duplicates of.
func Solicit(t testing.TB, from *pod.Pod, target netip.Addr) net.HardwareAddr {
	t.Helper()
	mac := SolicitFor(t, from, target, Patience)
	if mac == nil {
		t.Fatalf("nobody answers for %s", target)
	}
	return mac
}

// SolicitFor is Solicit for so long. The MAC is nil where nobody answers.
func SolicitFor(t testing.TB, from *pod.Pod, target netip.Addr, patience time.Duration) net.HardwareAddr {
	t.Helper()
	link := Link(t, from.Namespace, pod.Interface)
	var conn *packet.Conn
	var src [16]byte
	err := from.Do(func() (err error) {
		if conn, err = packet.Listen(link, packet.Raw, unix.ETH_P_IPV6, nil); err == nil {
			src, err = linkLocal(link)
		}
		return err
	})
	if conn != nil {
		defer conn.Close()
	}
	if err != nil {
		t.Fatal(err)
	}

	last := target.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16() // RFC 4291, 2.7.1
	copy(group[13:], last[13:])
	dst := net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
	message := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, last[:], []byte{1, 1}, link.HardwareAddr)
	pseudo := slices.Concat(src[:], group[:], []byte{0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6}, message)
	var sum uint32
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum>>16+sum))
	header := []byte{0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	frame := slices.Concat(dst, link.HardwareAddr, []byte{0x86, 0xdd}, header, src[:], group[:], message)

	b := make([]byte, 2000)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		_, sendErr := conn.WriteTo(frame, &packet.Addr{HardwareAddr: dst})
		again := time.Now().Add(100 * time.Millisecond)
		if again.After(deadline) {
			again = deadline
		}
		if err := errors.Join(sendErr, conn.SetReadDeadline(again)); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := conn.ReadFrom(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			const icmp = 14 + 40
			// An advertisement's target follows its flags, and its option has the MAC.
			if n >= icmp+32 && b[20] == unix.IPPROTO_ICMPV6 && b[icmp] == 136 && slices.Equal(b[icmp+8:icmp+24], last[:]) {
				return net.HardwareAddr(slices.Clone(b[icmp+26 : icmp+32]))
			}
		}
	}
	return nil
}

// linkLocal is the link-local address of a link. Those of several ipvlans differ, and what is for another one's address does
// not reach it.
func linkLocal(link *net.Interface) (a [16]byte, err error) {
	addresses, err := link.Addrs()
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
			return prefix.Addr().As16(), nil
		}
	}
	return a, errors.Join(fmt.Errorf("%s has no link-local address", link.Name), err)
}
