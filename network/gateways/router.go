package gateways

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// How often, and for how long each time, FindRouters asks: on a pod's link a router answers within a millisecond.
const (
	routerAttempts = 3
	routerWait     = 100 * time.Millisecond
)

// RouterUp is how long a router may take until it answers: one whose link was set up with the pod's does not answer for an
// address before it has seen that nobody else has it, which takes up to a second before it asks and one after that (RFC
// 4862, 5.4.2; addrconf_dad_kick).
const RouterUp = 2500 * time.Millisecond

// FindRouters asks on the pod's link where the gateways are, as the pod would ask: for the MAC of each, unless the pod had a
// permanent entry for it, and for a link-local address of it where it is known by none that anybody answers for. A router
// advertisement must come from such an address (RFC 4861, 6.1.2). A gateway that nobody answers for is found without one.
//
// The address is the one that is made of the MAC (RFC 4291, appendix A), or one from which a router with that MAC answers an
// echo request: a bridge keeps its first address when its MAC changes with its ports.
//
// mark is what a wiring lets frames leave by, if it is not 0; age is for how long the pod's link has been up, and wait for how
// long a gateway is asked for at least: plugins give the node's end its address when all is done in the pod (ptp).
func FindRouters(ns namespace, nic string, mark uint32, original *plan.Snapshot, age, wait time.Duration) ([]identity.Router, error) {
	wanted := original.RoutersWanted()
	if len(wanted) == 0 {
		return nil, nil
	}
	return askFor(wanted, original, age, wait, func() (questions, error) { return askByFrames(ns, nic, mark) }, original.Asking())
}

// Wiring is what the questions about a wired interface depend on.
type Wiring struct {
	Original *plan.Snapshot
	Names    plan.Names
	Options  plan.Options
}

// RoutersNow asks again where the gateways of a wired interface are, whose routers are known: what becomes of those that
// nobody answers for stays as it was. What is different is asked for twice, since an answer may be lost. For a server with a
// packet socket it requires CAP_NET_RAW, and, where frames are redirected, CAP_NET_ADMIN on kernels before 5.17; for one with
// a UDP socket nothing.
func RoutersNow(ns namespace, seen Wiring, known []identity.Router) ([]identity.Router, error) {
	ask := func() ([]identity.Router, error) {
		wanted := seen.Original.Gateways()
		for i := range wanted {
			for _, k := range known {
				if k.Gateway == wanted[i].Gateway && !k.Gateway.IsLinkLocalUnicast() {
					wanted[i].Address = k.Address // to be asked for first
				}
			}
		}
		if seen.Options.Socket == plan.SocketUDP {
			mac := seen.Original.Link(plan.NIC).MAC
			return askFor(wanted, seen.Original, RouterUp, 0, func() (questions, error) { return askByDatagrams(ns, seen.Names, mac) }, identity.Asker(mac))
		}
		return askFor(wanted, seen.Original, RouterUp, 0, func() (questions, error) {
			return askByFrames(ns, seen.Names.NIC, seen.Options.Mark)
		}, seen.Original.Asking())
	}
	now, err := ask()
	if err != nil || sameRouters(known, now) {
		return known, err
	}
	again, err := ask()
	if err != nil || !slices.Equal(now, again) {
		return known, err
	}
	var all []identity.Router
	for _, r := range now {
		i := slices.IndexFunc(known, func(k identity.Router) bool { return k.Gateway == r.Gateway })
		if i >= 0 && r.MAC.IsZero() {
			r = known[i]
		}
		all = append(all, r)
	}
	return all, nil
}

// sameRouters reports whether all that answer are where they were.
func sameRouters(known, now []identity.Router) bool {
	return !slices.ContainsFunc(now, func(r identity.Router) bool {
		return !r.MAC.IsZero() && !slices.ContainsFunc(known, func(k identity.Router) bool {
			return k.Gateway == r.Gateway && k.Address == r.Address && k.MAC == r.MAC
		})
	})
}

// askFor asks for them, from an address, by what open opens.
func askFor(
	wanted []identity.Router, original *plan.Snapshot, age, wait time.Duration, open func() (questions, error), from netip.Addr,
) ([]identity.Router, error) {
	nic := original.Link(plan.NIC)
	conn, err := open()
	if err != nil {
		return nil, fmt.Errorf("look for the routers of %s: %w", nic.Name, err)
	}
	defer conn.Close()
	now := time.Now()
	r := &asker{conn: conn, mac: nic.MAC, from: from, up: now.Add(RouterUp - age), there: now.Add(wait)}
	var found []identity.Router
	for _, w := range wanted {
		if err := r.find(&w); err != nil {
			return nil, fmt.Errorf("ask for the router %s on %s: %w", w.Gateway, nic.Name, err)
		}
		found = append(found, w)
	}
	return standIns(found), nil
}

// standIns gives each router that podnic stands in for an address of its own: the guest tells them by it.
func standIns(found []identity.Router) []identity.Router {
	for i := range found {
		for slices.ContainsFunc(found[:i], func(o identity.Router) bool {
			return identity.IsVirtualRouter(o.Address) && o.Address == found[i].Address && o.MAC != found[i].MAC
		}) {
			found[i].Address = identity.NextVirtualRouter(found[i].Address)
		}
	}
	return found
}

// asker asks in the pod's name.
type asker struct {
	conn questions
	mac  identity.MAC
	from netip.Addr
	up   time.Time // when routers have their addresses
	// there is when gateways have theirs.
	there time.Time
}

// find completes what is known of a router.
func (a *asker) find(r *identity.Router) error {
	var err error
	if r.MAC.IsZero() {
		if r.MAC, _, err = a.ask(a.solicitation(r.Gateway), later(a.up, a.there), func(h heard) bool { return h.advertises(r.Gateway) }); err != nil || r.MAC.IsZero() {
			return err
		}
	}
	if r.Address.IsValid() && r.Address == r.Gateway {
		return nil
	}
	standIn := identity.VirtualRouter
	if known := r.Address; identity.IsVirtualRouter(known) {
		standIn = known
	} else if known.IsLinkLocalUnicast() {
		_, there, err := a.ask(a.solicitation(known), time.Time{}, func(h heard) bool { return h.mac == r.MAC && h.advertises(known) })
		if err != nil || there.IsValid() {
			return err
		}
	}
	r.Address = netip.Addr{}
	own := identity.LinkLocalOf(r.MAC)
	_, address, err := a.ask(append(a.solicitation(own), a.echo()...), a.up, func(h heard) bool {
		return h.mac == r.MAC && (h.advertises(own) || h.echoed || h.kind == icmpEchoReply && h.from.IsLinkLocalUnicast())
	})
	switch {
	case address.IsValid():
		r.Address = address
	case r.Gateway.IsLinkLocalUnicast():
		r.Address = r.Gateway // which podnic answers for
	default:
		r.Address = standIn
	}
	return err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ask sends frames until an answer is as it should be, some times and until a moment at least, and says who it is from: the
// zero MAC where nobody answers.
func (a *asker) ask(frames [][]byte, until time.Time, answers func(heard) bool) (identity.MAC, netip.Addr, error) {
	for i := 0; i < routerAttempts || time.Now().Before(until); i++ {
		if err := a.conn.SetReadDeadline(time.Now().Add(routerWait)); err != nil {
			return identity.MAC{}, netip.Addr{}, err
		}
		for _, frame := range frames {
			if err := a.conn.ask(frame); err != nil {
				return identity.MAC{}, netip.Addr{}, err
			}
		}
		h, err := a.answer(answers)
		if err == nil {
			return h.mac, h.address(), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return identity.MAC{}, netip.Addr{}, err
		}
	}
	return identity.MAC{}, netip.Addr{}, nil
}

func (a *asker) answer(answers func(heard) bool) (heard, error) {
	for {
		h, ok, err := a.conn.hear()
		if err != nil {
			return heard{}, err
		}
		if ok && answers(h) {
			return h, nil
		}
	}
}

// questions carries what is asked to the pod network, as frames, and what is answered back.
type questions interface {
	ask(frame []byte) error
	// hear waits for a message; ok says that it is one that may be an answer.
	hear() (h heard, ok bool, err error)
	SetReadDeadline(time.Time) error
	Close() error
}

// frameQuestions are asked by a packet socket, in the pod's name.
type frameQuestions struct {
	*packet.Conn
	buffer [2048]byte
}

// askByFrames opens one on the pod's link. mark is what a wiring lets frames leave by.
func askByFrames(ns namespace, nic string, mark uint32) (questions, error) {
	conn, err := listenOn(ns, nic, mark)
	if err != nil {
		return nil, err
	}
	return &frameQuestions{Conn: conn}, nil
}

func (q *frameQuestions) ask(frame []byte) error {
	_, err := q.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}

func (q *frameQuestions) hear() (heard, bool, error) {
	n, _, err := q.ReadFrom(q.buffer[:])
	if err != nil {
		return heard{}, false, err
	}
	h, ok := hear(q.buffer[:n])
	return h, ok, nil
}

// Messages of ICMPv6 (RFC 4443, RFC 4861).
const (
	icmpEchoRequest            = 128
	icmpEchoReply              = 129
	icmpNeighbourSolicitation  = 135
	icmpNeighbourAdvertisement = 136
)

// An Ethernet frame with IPv6 and ICMPv6: where its parts are.
const (
	ethernetHeader = 14
	icmpAt         = ethernetHeader + 40
	targetAt       = icmpAt + 8
	optionsAt      = targetAt + 16
)

var (
	allRouters      = netip.MustParseAddr("ff02::2")
	solicitedPrefix = [13]byte{0xff, 0x02, 11: 1, 12: 0xff} // RFC 4291, 2.7.1
)

// solicitation asks for the MAC of an address, and says the pod's.
func (a *asker) solicitation(target netip.Addr) [][]byte {
	to := target.As16()
	copy(to[:], solicitedPrefix[:])
	body := slices.Concat([]byte{icmpNeighbourSolicitation, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), []byte{1, 1}, a.mac[:])
	return [][]byte{a.frame(netip.AddrFrom16(to), body)}
}

// echo asks all routers to show themselves.
func (a *asker) echo() [][]byte {
	return [][]byte{a.frame(allRouters, []byte{icmpEchoRequest, 0, 0, 0, 'p', 'n', 0, 1})}
}

// frame is one to a multicast group, with the hop limit that neighbour discovery asks for.
func (a *asker) frame(to netip.Addr, icmp []byte) []byte {
	group, source := to.As16(), a.from.AsSlice()
	pseudo := slices.Concat(source, group[:], []byte{0, 0, byte(len(icmp) >> 8), byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6}, icmp)
	binary.BigEndian.PutUint16(icmp[2:], checksumOf(pseudo))
	return slices.Concat([]byte{0x33, 0x33}, group[12:], a.mac[:], []byte{0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, byte(len(icmp) >> 8), byte(len(icmp)), unix.IPPROTO_ICMPV6, 255}, source, group[:], icmp)
}

// checksumOf is the Internet's (RFC 1071), of an even number of bytes.
func checksumOf(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// heard is a message of ICMPv6.
type heard struct {
	kind   byte
	from   netip.Addr
	target netip.Addr   // of a neighbour advertisement
	mac    identity.MAC // its sender's, or what it says
	echoed bool         // the target has answered an echo request
}

func (h heard) advertises(ip netip.Addr) bool {
	return h.kind == icmpNeighbourAdvertisement && h.target == ip
}

// address is the one that the message shows to be its sender's.
func (h heard) address() netip.Addr {
	if h.kind == icmpNeighbourAdvertisement {
		return h.target
	}
	return h.from
}

func hear(frame []byte) (h heard, ok bool) {
	if len(frame) < targetAt || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IPV6 || frame[ethernetHeader+6] != unix.IPPROTO_ICMPV6 {
		return h, false
	}
	h.kind, h.mac = frame[icmpAt], identity.MAC(frame[6:12])
	h.from = netip.AddrFrom16([16]byte(frame[ethernetHeader+8:]))
	if h.kind != icmpNeighbourAdvertisement {
		return h, true
	}
	if len(frame) < optionsAt || frame[ethernetHeader+7] != 255 {
		return h, false
	}
	h.readTarget(frame[targetAt:])
	return h, true
}

// readTarget reads what is behind the first 8 bytes of a neighbour advertisement.
func (h *heard) readTarget(b []byte) {
	h.target = netip.AddrFrom16([16]byte(b))
	for options := b[optionsAt-targetAt:]; len(options) >= 8; {
		length := int(options[1]) * 8
		if length == 0 || length > len(options) {
			break
		}
		if options[0] == 2 && length == 8 { // the target's link-layer address
			h.mac = identity.MAC(options[2:8])
		}
		options = options[length:]
	}
}
