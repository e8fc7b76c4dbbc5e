package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Check looks through a snapshot of an interface that nothing is wired to.
func (s *Snapshot) Check(iface string) error {
	if len(s.Links) != 1 {
		return fmt.Errorf("it has %d links, and the original is one", len(s.Links))
	}
	if err := s.Links[0].check(iface); err != nil {
		return fmt.Errorf("link %q: %w", s.Links[0].Name, err)
	}
	for _, a := range s.Addresses {
		if err := a.check(iface); err != nil {
			return fmt.Errorf("address %s: %w", a.Local, err)
		}
	}
	for _, r := range s.Routes {
		if err := r.check(); err != nil {
			return fmt.Errorf("route to %s: %w", r.Destination, err)
		}
	}
	for _, r := range s.Barriers {
		if !r.Blocks() || len(r.Hops) > 0 || !r.Destination.IsValid() || r.Destination != r.Destination.Masked() {
			return fmt.Errorf("the route to %s does not block", r.Destination)
		}
	}
	for _, n := range s.Neighbours {
		if n.Link != NIC || !n.Address.IsValid() || n.Address.Zone() != "" {
			return fmt.Errorf("the neighbour %s is not on the interface", n.Address)
		}
	}
	for _, r := range s.Routers {
		if err := checkRouter(r); err != nil {
			return err
		}
	}
	return nil
}

// CheckGuest looks through what a filter is made by that is not the original: it comes from a file too.
func CheckGuest(mac identity.MAC, routers []identity.Router, neighbours []identity.Neighbour, alias string) error {
	for _, r := range routers {
		if err := checkRouter(r); err != nil {
			return err
		}
	}
	for _, n := range neighbours {
		if !n.Address.Is6() || n.Address.Zone() != "" {
			return fmt.Errorf("the neighbour %s is not an IPv6 address", n.Address)
		}
	}
	switch {
	case mac.IsZero() || mac[0]&1 != 0:
		return fmt.Errorf("%s cannot be a guest's MAC", mac)
	case len(alias) > maxAlias || strings.ContainsRune(alias, 0):
		return errors.New("the alias is too long, or has a zero in it")
	}
	return nil
}

func checkRouter(r identity.Router) error {
	none := r.Address.IsValid() && !(r.Address.Is6() && r.Address.IsLinkLocalUnicast())
	if none || !r.Gateway.Is6() || r.Gateway.Zone()+r.Address.Zone() != "" || r.MAC[0]&1 != 0 {
		return fmt.Errorf("%s at %s (%s) is not a router", r.Gateway, r.Address, r.MAC)
	}
	return nil
}

const (
	maxMTU     = 65535 // of a veth: ETH_MAX_MTU (include/uapi/linux/if_ether.h)
	maxAlias   = 255   // IFALIASZ less the final zero (include/uapi/linux/if.h)
	maxAltName = 127   // ALTIFNAMSIZ likewise
	maxAlgo    = 15    // TCP_CA_NAME_MAX likewise (include/net/tcp.h)
	maxWeight  = 256   // rtnh_hops is one less in a byte
	rtaxMax    = 17    // RTAX_MAX (include/uapi/linux/rtnetlink.h)
)

func (l Link) check(iface string) error {
	switch {
	case l.Role != NIC || l.Name != iface:
		return fmt.Errorf("it is not %s", iface)
	case l.Index < 1 || l.Index > math.MaxInt32:
		return fmt.Errorf("no link has the index %d", l.Index)
	case len(l.Kind) > MaxName || !printable(l.Kind):
		return errors.New("unknown kind of link")
	case l.MAC[0]&1 != 0:
		return fmt.Errorf("the MAC %s is a group address", l.MAC)
	case l.MTU < 1 || l.MTU > maxMTU:
		return fmt.Errorf("its MTU is %d", l.MTU)
	case IsMark(l.Group):
		return errors.New("it carries podnic's mark")
	case l.Master != "" || l.MasterIndex != 0:
		return errors.New("it is a port of another link")
	case l.TxQLen < 0 || l.TxQLen > math.MaxInt32:
		return fmt.Errorf("its queue is %d frames long", l.TxQLen)
	case l.AddrGenMode != "" && !slices.Contains(AddrGenModes, l.AddrGenMode):
		return fmt.Errorf("unknown addrgenmode %q", l.AddrGenMode)
	case len(l.Alias) > maxAlias || strings.ContainsRune(l.Alias, 0):
		return errors.New("its alias is too long, or has a zero in it")
	}
	for _, name := range l.AltNames {
		if name == "" || len(name) > maxAltName || strings.ContainsAny(name, "/\x00 \t\n\v\f\r") {
			return fmt.Errorf("%q cannot be the name of a link", name)
		}
	}
	return nil
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

func (a Address) check(iface string) error {
	is4 := a.Is4()
	switch {
	case a.Link != NIC:
		return errors.New("it is of another link")
	case !a.Local.IsValid() || a.Local.Addr().Zone() != "":
		return errors.New("it is not an address")
	case a.Peer.IsValid() && a.Peer.Is4() != is4, a.Broadcast.IsValid() && a.Broadcast.Is4() != is4:
		return errors.New("peer or broadcast address is of another family")
	case len(a.Label) > MaxName, a.Label != "" && a.Label != iface && !strings.HasPrefix(a.Label, iface+":"):
		return fmt.Errorf("the label %q is not the interface's", a.Label)
	case a.Flags&^KeptFlags != 0:
		return fmt.Errorf("unknown flags %#x", a.Flags&^KeptFlags)
	}
	return nil
}

// check demands that a hop is on the interface: a route on other links only is not one that the wiring takes away.
func (r Route) check() error {
	is4 := r.Is4()
	switch {
	case !r.Destination.IsValid() || r.Destination.Addr().Zone() != "":
		return errors.New("it has no destination")
	case r.Source.IsValid() && r.Source.Addr().Is4() != is4, r.PrefSrc.IsValid() && r.PrefSrc.Is4() != is4:
		return errors.New("its source is of another family")
	case r.Type == unix.RTN_UNSPEC || int(r.Type) > unix.RTN_XRESOLVE:
		return fmt.Errorf("unknown route type %d", r.Type)
	case len(r.Congestion) > maxAlgo || !printable(r.Congestion):
		return errors.New("unknown congestion control")
	case !r.uses(NIC):
		return errors.New("it is not on the interface")
	}
	for number := range r.Metrics {
		if number == 0 || number > rtaxMax {
			return fmt.Errorf("unknown metric %d", number)
		}
	}
	for _, h := range r.Hops {
		switch {
		case h.Link != NIC && (h.Link != "" || h.OtherIndex < 1 || h.OtherIndex > math.MaxInt32):
			return errors.New("a hop is on no link")
		case h.Gateway.Zone() != "":
			return fmt.Errorf("%s cannot be a gateway", h.Gateway)
		case h.Weight < 0 || h.Weight > maxWeight:
			return fmt.Errorf("a hop weighs %d", h.Weight)
		}
	}
	return nil
}
