package nd

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/podnic/podnic/network/identity"
)

// MinMTU is the smallest that a link may have for IPv6 (RFC 8200 §5). Linux ignores the option with less (ndisc_router_discovery
// in net/ipv6/ndisc.c).
const MinMTU = 1280

// maxRouterLifetime is the longest of a default router, in seconds: the field has 16 bits (RFC 8319 §4).
const maxRouterLifetime = math.MaxUint16

// Lifetimes of what an advertisement tells of: until it is taken back, or no longer.
const (
	forever = ndp.Infinity
	gone    = time.Duration(0)
)

// Router is what a router advertises.
type Router struct {
	// Source is the link-local address that the advertisement comes from, and the guest's next hop.
	Source netip.Addr
	// Default: it is a default router.
	Default bool
	// Lifetime is for how long, in seconds; more than its field holds is as much as it holds.
	Lifetime uint32
	// MTU in bytes; what cannot be the MTU of an IPv6 link is left out.
	MTU int
	// MAC is where the router is, for a guest that nobody else would tell; zero leaves it out.
	MAC identity.MAC
	Told
	// Withdrawn was advertised before, and is gone.
	Withdrawn Told
}

// Told is what an advertisement tells of besides the router.
type Told struct {
	OnLink []netip.Prefix
	Routes []netip.Prefix // by the router
	DNS    []netip.Addr
	Search []string
}

// Without is what is told of here and not there.
func (t Told) Without(other Told) Told {
	return Told{
		OnLink: minus(t.OnLink, other.OnLink),
		Routes: minus(t.Routes, other.Routes),
		DNS:    minus(t.DNS, other.DNS),
		Search: minus(t.Search, other.Search),
	}
}

// And is what is told of here or there.
func (t Told) And(other Told) Told {
	return Told{
		OnLink: append(slices.Clone(t.OnLink), minus(other.OnLink, t.OnLink)...),
		Routes: append(slices.Clone(t.Routes), minus(other.Routes, t.Routes)...),
		DNS:    append(slices.Clone(t.DNS), minus(other.DNS, t.DNS)...),
		Search: append(slices.Clone(t.Search), minus(other.Search, t.Search)...),
	}
}

// IsZero reports whether nothing is told of.
func (t Told) IsZero() bool {
	return len(t.OnLink)+len(t.Routes)+len(t.DNS)+len(t.Search) == 0
}

func minus[T comparable](list, other []T) []T {
	var kept []T
	for _, e := range list {
		if !slices.Contains(other, e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// Advertise makes the messages of a router to a destination, each of at most so many bytes: more than one where the options
// do not fit into one (RFC 4861 §6.2.3). leftOut names what cannot be said.
func (r Router) Advertise(to netip.Addr, size int) (messages [][]byte, leftOut []string, err error) {
	options, leftOut := r.options()
	for first := true; first || len(options) > 0; first = false {
		n, message, err := r.fill(options, to, size)
		if err != nil {
			return nil, nil, err
		}
		messages, options = append(messages, message), options[n:]
	}
	return messages, leftOut, nil
}

// fill makes a message of as many of the options as fit, but of one at least.
func (r Router) fill(options []ndp.Option, to netip.Addr, size int) (n int, message []byte, err error) {
	const header = 16
	used := header
	for n < len(options) {
		length, err := optionLength(options[n])
		if err != nil {
			return 0, nil, err
		}
		if n > 0 && used+length > size {
			break
		}
		n, used = n+1, used+length
	}
	lifetime := time.Duration(0)
	if r.Default {
		lifetime = time.Duration(min(r.Lifetime, maxRouterLifetime)) * time.Second
	}
	message, err = ndp.MarshalMessageChecksum(&ndp.RouterAdvertisement{
		ManagedConfiguration: true, OtherConfiguration: true, RouterLifetime: lifetime, Options: options[:n],
	}, r.Source, to)
	if err != nil {
		return 0, nil, fmt.Errorf("advertise the router %s: %w", r.Source, err)
	}
	return n, message, nil
}

// optionLength is how many bytes an option takes: what a message has more by it.
func optionLength(o ndp.Option) (int, error) {
	b, err := ndp.MarshalMessage(&ndp.RouterSolicitation{Options: []ndp.Option{o}})
	return len(b) - 8, err
}

// The library counts an option's length in one byte, as bytes, and so fails a message with one of 256 or more.
const maxOption = 248

// options are what is told of, in the order of its importance.
func (r Router) options() (options []ndp.Option, leftOut []string) {
	if !r.MAC.IsZero() {
		options = append(options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: r.MAC.HardwareAddr()})
	}
	if r.MTU >= MinMTU {
		options = append(options, ndp.NewMTU(uint32(r.MTU)))
	}
	for _, t := range []struct {
		Told
		lifetime time.Duration
	}{{r.Told, forever}, {r.Withdrawn, gone}} {
		for _, p := range t.OnLink {
			options = append(options, &ndp.PrefixInformation{
				Prefix: p.Masked().Addr(), PrefixLength: uint8(p.Bits()), OnLink: true, ValidLifetime: t.lifetime, PreferredLifetime: t.lifetime,
			})
		}
		for _, p := range t.Routes {
			options = append(options, &ndp.RouteInformation{Prefix: p.Masked().Addr(), PrefixLength: uint8(p.Bits()), RouteLifetime: t.lifetime})
		}
		for servers := range slices.Chunk(t.DNS, (maxOption-8)/16) {
			options = append(options, &ndp.RecursiveDNSServer{Lifetime: t.lifetime, Servers: servers})
		}
		lists, long := searchLists(t.Search)
		for _, names := range lists {
			options = append(options, &ndp.DNSSearchList{Lifetime: t.lifetime, DomainNames: names})
		}
		leftOut = append(leftOut, long...)
	}
	return options, leftOut
}

// searchLists divides names over options. A name that the library cannot say is left out, and a client has it by DHCPv6:
// one that is too long for one option, or that looks like Punycode but is not.
func searchLists(names []string) (lists [][]string, leftOut []string) {
	const room = maxOption - 8
	left := 0
	for _, name := range names {
		size := len(name) + 2 // the length of its first label, and the root
		if _, err := optionLength(&ndp.DNSSearchList{DomainNames: []string{name}}); err != nil || size > room {
			leftOut = append(leftOut, fmt.Sprintf("the search domain %.80s in router advertisements", name))
			continue
		}
		if size > left {
			lists, left = append(lists, nil), room
		}
		last := len(lists) - 1
		lists[last], left = append(lists[last], name), left-size
	}
	return lists, leftOut
}

// Neighbor is the answer to a solicitation for an address.
type Neighbor struct {
	Target netip.Addr
	MAC    identity.MAC
	Router bool
	// Source is whose address it comes from, To where it goes.
	Source, To netip.Addr
	// Solicited: it answers somebody who has an address.
	Solicited bool
}

// Message is the answer.
func (n Neighbor) Message() ([]byte, error) {
	return ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router: n.Router, Solicited: n.Solicited, Override: true, TargetAddress: n.Target,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: n.MAC.HardwareAddr()}},
	}, n.Source, n.To)
}
