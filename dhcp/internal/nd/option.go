package nd

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// Option is an option that says where something is or what is on the link (RFC 4861 §4.6, RFC 4191, RFC 8106), as text.
type Option struct {
	Name, Value string
	// Ended says that its lifetime is zero: what it told of is withdrawn.
	Ended bool
}

// Options reads the options of a message, from the first on, each by itself: of a message that ends in the middle of one, or of
// which one is malformed, those that can be read are there with the error. Others than Option speaks of are left out.
func Options(b []byte) (all []Option, err error) {
	for len(b) > 0 {
		size := 0
		if len(b) > 1 {
			size = int(b[1]) * 8
		}
		if size == 0 || size > len(b) {
			return all, drop.Malformed
		}
		o, ok, failed := option(b[:size])
		if failed != nil {
			err = failed
		} else if ok {
			all = append(all, o)
		}
		b = b[size:]
	}
	return all, err
}

// option reads one. The library reads whole messages, and so it is that of a router solicitation.
func option(b []byte) (o Option, ok bool, err error) {
	m, err := ndp.ParseMessage(append([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, b...))
	if err != nil {
		return Option{}, false, drop.Malformed
	}
	until := func(name, value string, lifetime time.Duration) (Option, bool, error) {
		return Option{name, value, lifetime == 0}, true, nil
	}
	switch o := m.(*ndp.RouterSolicitation).Options[0].(type) {
	case *ndp.LinkLayerAddress:
		name := "sender at"
		if o.Direction == ndp.Target {
			name = "at"
		}
		return Option{Name: name, Value: o.Addr.String()}, true, nil
	case *ndp.PrefixInformation:
		return until("prefix", netip.PrefixFrom(o.Prefix, int(o.PrefixLength)).String(), o.ValidLifetime)
	case *ndp.RouteInformation:
		return until("route", netip.PrefixFrom(o.Prefix, int(o.PrefixLength)).String(), o.RouteLifetime)
	case *ndp.MTU:
		return Option{Name: "mtu", Value: fmt.Sprint(o.MTU)}, true, nil
	case *ndp.RecursiveDNSServer:
		var servers []string
		for _, s := range o.Servers {
			servers = append(servers, s.String())
		}
		return until("dns", strings.Join(servers, " "), o.Lifetime)
	case *ndp.DNSSearchList:
		return until("search", strings.Join(o.DomainNames, " "), o.Lifetime)
	}
	return Option{}, false, nil
}

// solicitation is the type of a router solicitation (RFC 4861 §4.1).
const solicitation = 133
