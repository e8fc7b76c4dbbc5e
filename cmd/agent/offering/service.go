// Package offering is what a guest is to be served with, and what it is told because of that: the offer that the server
// makes, and that status shows where nobody serves yet.
package offering

import (
	"fmt"
	"os"
	"strings"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
)

// Service is what the guest is to be served with.
type Service struct {
	Options dhcp.Options
	// ResolvConf is the path of the pod's resolver configuration; empty means that it is not to be had.
	ResolvConf string
	// Subdomain is that of the machine below a domain of the cluster, in a launcher pod of KubeVirt's.
	Subdomain string
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
func (s Service) identity(original *network.Snapshot) (identity.Identity, []string) {
	id, warnings := network.Identify(original)
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

// Offer is what the guest is told; nil where there is nothing to tell, since the interface has no address.
func (s Service) Offer(seen *network.State) (*dhcp.Offer, []string, error) {
	id, warnings := s.identity(seen.Original)
	if id.Layer2Only() {
		return nil, warnings, nil
	}
	options := s.Options
	options.UDP, options.Server = seen.Options.Socket == network.SocketUDP, seen.Server
	offer, more, err := dhcp.NewOffer(id, options)
	return &offer, append(warnings, more...), err
}
