package gateways

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
// any more. mark is what the wiring lets frames leave by, if it is not 0. It needs CAP_NET_RAW.
func Resolve(ns namespace, nic string, mark uint32, pod identity.MAC, podAddress, target netip.Addr) (identity.MAC, error) {
	mac, err := resolve(ns, nic, mark, pod, podAddress, target)
	if err != nil {
		return identity.MAC{}, fmt.Errorf("ask for the MAC of %s on %s: %w", target, nic, err)
	}
	return mac, nil
}

func resolve(ns namespace, nic string, mark uint32, pod identity.MAC, podAddress, target netip.Addr) (identity.MAC, error) {
	conn, err := listenOn(ns, nic, mark)
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

// namespace is where a socket is opened.
type namespace interface {
	Do(f func() error) error
}

// listenOn opens a packet socket on the pod's link, whose frames a wiring lets pass.
func listenOn(ns namespace, nic string, mark uint32) (conn *packet.Conn, err error) {
	err = ns.Do(func() error {
		link, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		// A socket for one protocol would hear nothing on a bridge port: the bridge takes the frames first.
		conn, err = packet.Listen(link, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := passFences(conn, mark); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// passFences has all that a socket sends carry the mark that a wiring by nftables lets pass. Before Linux 5.17 that takes
// CAP_NET_ADMIN. The filters of one by tc see nothing of what goes past the qdiscs.
func passFences(conn *packet.Conn, mark uint32) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
		if mark != 0 && set == nil {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}
	})
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("let a socket's frames pass the wiring: %w", err)
	}
	return nil
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
