// Package offering is what a guest is to be served with, and what it is told because of that: the offer that the server
// makes, and that status shows where nobody serves yet.
package offering

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// Service is what the guest is to be served with.
type Service struct {
	Options dhcp.Settings
	// ResolvConf is the path of the pod's resolver configuration; empty means that it is not to be had.
	ResolvConf string
	// Subdomain is that of the machine below a domain of the cluster, in a launcher pod of KubeVirt.
	Subdomain string
	// Beside says that the guest has another interface, with the default route: hostname, resolver and time servers are that
	// one's to tell.
	Beside bool
	// GuestMTUs are of interfaces whose card in the guest takes no more, by name.
	GuestMTUs map[string]int
	// Outside says that this process is not in the pod, so that its hostname is not the pod's.
	Outside bool
	// Metrics is where numbers for Prometheus are served, Version the podnic that they speak of.
	Metrics metrics.Address
	Version string
	// Config is the file that Again reads, empty for none.
	Config string
	// Again reads the configuration anew; nil means that there is nothing to read.
	Again func() (Service, error) `json:"-"`
}

// identity adds to what the pod's interface says what only a process in the pod can know.
func (s Service) identity(original *plan.Snapshot, o plan.Options) (identity.Identity, []string) {
	id, warnings := plan.Identify(original, o)
	if s.Beside {
		return id, warnings
	}
	if !s.Outside {
		if host, err := os.Hostname(); err == nil {
			id.Hostname, _, _ = strings.Cut(host, ".")
		} else {
			warnings = append(warnings, fmt.Sprintf("the pod's hostname cannot be read: %v", err))
		}
	}
	if s.ResolvConf == "" {
		return id, warnings
	}
	b, err := os.ReadFile(s.ResolvConf)
	if err != nil {
		return id, append(warnings, fmt.Sprintf("the pod's resolver configuration cannot be read, so the guest gets none: %v", err))
	}
	var unusable []string
	id.Resolver, unusable = dhcp.ParseResolvConf(b)
	id.Resolver.Search = kubevirt.SearchWithSubdomain(id.Resolver.Search, s.Subdomain)
	return id, append(warnings, unusable...)
}

// Of is the service of one of a guest's interfaces.
func (s Service) Of(one *network.Inspection, all []*network.Inspection) Service {
	s = s.WithMTUOf(one.Names.Interface)
	s.Beside = !one.Original.HasDefault() && slices.ContainsFunc(all, func(o *network.Inspection) bool { return o.Original.HasDefault() })
	return s
}

// WithMTUOf is the service with what the guest's card of an interface takes.
func (s Service) WithMTUOf(iface string) Service {
	if mtu := s.GuestMTUs[iface]; mtu > 0 && (s.Options.MTU == 0 || mtu < s.Options.MTU) {
		s.Options.MTU = mtu
	}
	return s
}

// Offers are what the guest is told, by family; nil where there is nothing to tell, since the interface has no address of it
// that is served.
type Offers struct {
	V4 *dhcp.Offer
	V6 *dhcp.Offer6
}

// Offers are what the guest is told.
func (s Service) Offers(seen *network.Inspection) (Offers, []string, error) {
	id, warnings := s.identity(seen.Original, seen.Options)
	var offers Offers
	options := s.Options
	if s.Beside {
		options.Hostname, options.DomainName, options.Search, options.DNS, options.NTP = "", "", nil, nil, nil
	}
	options.UDP, options.Server = seen.Options.Socket == plan.SocketUDP, seen.Server
	if id.V4.Served() {
		offer, more, err := dhcp.NewOffer(id, options)
		if warnings = append(warnings, more...); err != nil {
			return Offers{}, warnings, err
		}
		offers.V4 = &offer
	}
	if id.V6.Served() {
		offer, more, err := dhcp.NewOffer6(id, options)
		if warnings = append(warnings, more...); err != nil {
			return Offers{}, warnings, err
		}
		offers.V6 = &offer
	}
	return offers, warnings, nil
}
