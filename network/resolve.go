package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// How often, and for how long each time, Resolve asks: a gateway that is there answers within a millisecond.
const (
	resolveAttempts = 3
	resolveWait     = 500 * time.Millisecond
)

// Resolve asks on the pod's own link who has an address, as the pod would ask: in the wired namespace no stack does that
// any more. It needs CAP_NET_RAW.
func Resolve(ns *Namespace, nic string, pod identity.MAC, podAddress, target netip.Addr) (identity.MAC, error) {
	mac, err := resolve(ns, nic, pod, podAddress, target)
	if err != nil {
		return identity.MAC{}, fmt.Errorf("ask for the MAC of %s on %s: %w", target, nic, err)
	}
	return mac, nil
}

func resolve(ns *Namespace, nic string, pod identity.MAC, podAddress, target netip.Addr) (identity.MAC, error) {
	var conn *packet.Conn
	err := ns.Do(func() error {
		link, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		// A socket for ETH_P_ARP would hear nothing on a bridge port: the bridge takes the frames first.
		conn, err = packet.Listen(link, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return identity.MAC{}, err
	}
	defer conn.Close()
	request := arpRequestFrame(pod, podAddress, target)
	for range resolveAttempts {
		if err := conn.SetReadDeadline(time.Now().Add(resolveWait)); err != nil {
			return identity.MAC{}, err
		}
		if _, err := conn.WriteTo(request, &packet.Addr{HardwareAddr: net.HardwareAddr(request[:6])}); err != nil {
			return identity.MAC{}, err
		}
		if mac, err := arpReply(conn, target); !errors.Is(err, os.ErrDeadlineExceeded) {
			return mac, err
		}
	}
	return identity.MAC{}, errors.New("nobody answers")
}

// An Ethernet frame with an ARP packet for IPv4 (RFC 826): where its fields are.
const (
	arpKind      = 12 // EtherType
	arpOperation = 20
	arpSenderMAC = 22
	arpSenderIP  = 28
	arpEnd       = 42
)

func arpRequestFrame(pod identity.MAC, podAddress, target netip.Addr) []byte {
	var b bytes.Buffer
	b.Write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	b.Write(pod[:])
	b.Write([]byte{0x08, 0x06})                // EtherType ARP
	b.Write([]byte{0, 1, 0x08, 0, 6, 4, 0, 1}) // Ethernet, IPv4, address lengths, request
	b.Write(pod[:])
	b.Write(podAddress.AsSlice())
	b.Write(make([]byte, 6))
	b.Write(target.AsSlice())
	return b.Bytes()
}

func arpReply(conn *packet.Conn, target netip.Addr) (identity.MAC, error) {
	frame := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(frame)
		if err != nil {
			return identity.MAC{}, err
		}
		if n < arpEnd || binary.BigEndian.Uint16(frame[arpKind:]) != unix.ETH_P_ARP || binary.BigEndian.Uint16(frame[arpOperation:]) != 2 {
			continue
		}
		if sender, _ := netip.AddrFromSlice(frame[arpSenderIP : arpSenderIP+4]); sender == target {
			return identity.MAC(frame[arpSenderMAC : arpSenderMAC+6]), nil
		}
	}
}
