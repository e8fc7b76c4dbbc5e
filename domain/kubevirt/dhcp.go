package kubevirt

import (
	"slices"
	"strings"
)

// DHCPOptions are what a VMI wants the guest of an interface to be told (kubevirt.io/v1, DHCPOptions).
type DHCPOptions struct {
	BootFile       string          `json:"bootFileName,omitempty"`
	TFTPServer     string          `json:"tftpServerName,omitempty"`
	NTPServers     []string        `json:"ntpServers,omitempty"`
	PrivateOptions []PrivateOption `json:"privateOptions,omitempty"`
}

// PrivateOption is a DHCP option of a site's own, whose value is a text.
type PrivateOption struct {
	Code  int    `json:"option"`
	Value string `json:"value"`
}

// The codes that KubeVirt has for private options. It passes over others (prepareDHCPOptions in
// pkg/network/dhcp/server/server.go), and its webhook refuses them.
const (
	FirstPrivateOption = 224
	LastPrivateOption  = 254
)

// SearchWithSubdomain is the list of search domains of a pod in a VMI's subdomain, which Kubernetes leaves out of it: before
// the others the one of the subdomain, below the longest domain of a service, unless that is in the subdomain already
// (DomainNameWithSubdomain in pkg/network/dns/resolveconf.go).
func SearchWithSubdomain(search []string, subdomain string) []string {
	longest := ""
	for _, domain := range search {
		if strings.Contains(domain, ".svc.") && len(domain) > len(longest) {
			longest = domain
		}
	}
	if subdomain == "" || longest == "" || strings.HasPrefix(longest, subdomain+".") {
		return search
	}
	return slices.Concat([]string{subdomain + "." + longest}, search)
}
