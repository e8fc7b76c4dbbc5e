package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// udpSocket reads and writes datagrams on a bridge. It needs no capability, and therefore much of the namespace: missing
// names what that is.
type udpSocket struct {
	*boundSocket
	client netip.Addr // the only address that a reply is sent to, except everybody's
	source []byte     // control message that sets the source address of what is sent
	server netip.Addr
	finite bool // leases end
	buffer [bufferSize]byte
}

// ListenUDP opens a UDP socket in the namespace of the calling thread, filter attached.
func ListenUDP(link string, of Service, w Watch) (Socket, error) {
	program, err := DatagramFilter(of.Client, w)
	if err != nil {
		return nil, err
	}
	bound, err := listenBound("udp4", link, v4.ServerPort, program,
		// The kernel leaves a checksum to the tap, and a guest's to its driver, which leaves it unfinished: a client that reads
		// frames and nothing else (ConnMan) takes each for damaged. Zero says that there is none (RFC 768).
		option{unix.SOL_SOCKET, unix.SO_NO_CHECK, 1},
	)
	if err != nil {
		return nil, err
	}
	return &udpSocket{
		boundSocket: bound,
		client:      of.Address,
		server:      of.Server,
		finite:      of.Finite,
		source:      unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: of.Server.As4()}),
	}, nil
}

func (s *udpSocket) Receive() (Packet, error) {
	n, _, err := s.receive(s.buffer[:], nil)
	if err != nil {
		return Packet{}, err
	}
	return Packet{Data: s.buffer[:n], Source: netip.AddrFrom4(s.raw.sourceIPv4())}, nil
}

// Send reaches a client that uses its address by unicast, since a client that renews may listen on that address alone.
// Every other one is reached by broadcast: the kernel would ask for its MAC by ARP, which a client without an address
// does not answer, and an address that the guest makes up is nothing to send datagrams to.
func (s *udpSocket) Send(r Response) error {
	to := LimitedBroadcast()
	if r.Configured && r.To == s.client {
		to = r.To
	}
	if err := s.raw.sendIPv4(r.Message, s.source, to.As4(), networkOrder(v4.ClientPort)); err != nil {
		return fmt.Errorf("send on %s: %w", s.link, err)
	}
	return nil
}

func (s *udpSocket) Program(of Service, w Watch) ([]bpf.RawInstruction, error) {
	return DatagramFilter(of.Client, w)
}

// LackingSettings must be called in the namespace of the socket. A first lease works without any of these, its renewal does not.
func (s *udpSocket) LackingSettings() []string {
	var missing []string
	lack := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if accept, err := effective("accept_local", s.link); err != nil {
		lack("%v", err)
	} else if accept != 1 {
		lack("net.ipv4.conf.all.accept_local is not 1: renewals come from the pod's own address, and the kernel drops them")
	}
	at, err := s.holder()
	switch {
	case err != nil:
		lack("the addresses of the namespace cannot be read: %v", err)
	case at == "":
		lack("no link has the address %s: nothing can be sent from it", s.server)
	case at != s.link:
		missing = append(missing, s.elsewhere(at)...)
	}
	if s.noARP() {
		lack("ARP is off on %s: no guest can be reached", s.link)
	}
	return missing
}

// elsewhere is what the socket cannot do where the server's address is on another link than its own, as it has to be on a
// bridge that is not podnic's.
func (s *udpSocket) elsewhere(at string) []string {
	var missing []string
	// Where the link has no address at all, any reverse path filter stops what does not come from everybody's address
	// (__fib_validate_source in net/ipv4/fib_frontend.c).
	if filter, err := effective("rp_filter", s.link); err != nil {
		missing = append(missing, err.Error())
	} else if filter != 0 {
		missing = append(missing, fmt.Sprintf("net.ipv4.conf.%s.rp_filter is %d and the link has no address: the kernel drops what a guest sends that has a lease, "+
			"also to rebind it; set net.ipv4.conf.default.rp_filter and all to 0 before the link is made", s.link, filter))
	}
	if ignore, err := effective("arp_ignore", s.link); err != nil {
		missing = append(missing, err.Error())
	} else if ignore != 0 && s.finite {
		missing = append(missing, fmt.Sprintf("%s is an address of %s, and ARP for it is not answered on %s (net.ipv4.conf.all.arp_ignore): "+
			"leases are given and rebound, but not renewed", s.server, at, s.link))
	}
	return missing
}

// holder is the link that has the server's address, the socket's own before others; empty when none has it. All addresses
// are read at once: package net would ask the kernel twice for each link, and keep a server's heap full of the answers.
func (s *udpSocket) holder() (string, error) {
	answer, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_INET)
	if err != nil {
		return "", err
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return "", err
	}
	at := 0
	for _, m := range messages {
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil || m.Header.Type != unix.RTM_NEWADDR {
			continue // the end of the answer has none
		}
		index := int(binary.NativeEndian.Uint32(m.Data[4:])) // struct ifaddrmsg, ifa_index
		if slices.ContainsFunc(attributes, s.isServer) && (at == 0 || index == s.index) {
			at = index
		}
	}
	switch at {
	case 0:
		return "", nil
	case s.index:
		return s.link, nil
	}
	return linkName(at, s.control)
}

// isServer reports whether an attribute of an address says that it is the server's.
func (s *udpSocket) isServer(a syscall.NetlinkRouteAttr) bool {
	addr, ok := netip.AddrFromSlice(a.Value)
	return ok && a.Attr.Type == unix.IFA_LOCAL && addr == s.server
}

// effective is a setting for which the kernel takes the greater of the link's own and that of all links.
func effective(name, link string) (int, error) {
	all, err := readSetting("all", name)
	if err != nil {
		return 0, err
	}
	own, err := readSetting(link, name)
	return max(all, own), err
}

func readSetting(link, name string) (int, error) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/" + name)
	if err != nil {
		return 0, fmt.Errorf("net.ipv4.conf.%s.%s cannot be read: %w", link, name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// noARP reports whether the link does without ARP: then the kernel drops what the socket sends, broadcasts included.
func (s *udpSocket) noARP() bool {
	request, err := unix.NewIfreq(s.link)
	if err != nil {
		return false
	}
	err = s.control(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request) })
	return err == nil && request.Uint16()&unix.IFF_NOARP != 0
}
