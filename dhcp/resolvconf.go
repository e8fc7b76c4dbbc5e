package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
)

// maxResolvConf bounds what is read of a resolver configuration, in bytes. Kubernetes allows 32 search domains of 2,048
// characters in all; this is many times that.
const maxResolvConf = 64 << 10

// ParseResolvConf reads a resolver configuration as resolv.conf(5) describes it and as kubelets write it. It keeps every
// address and every domain in the order of the file; which of them can be handed to a guest is NewOffer's to judge. As in
// the C library the last "search" or "domain" line counts. "options" lines are passed over: DHCP has no option for them.
//
// A line that cannot be read costs that line and a warning.
func ParseResolvConf(text []byte) (identity.Resolver, []string) {
	var (
		resolver identity.Resolver
		warnings []string
	)
	if len(text) > maxResolvConf {
		text = text[:maxResolvConf]
		warnings = append(warnings, fmt.Sprintf("resolver configuration: everything after %d bytes is left out", maxResolvConf))
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		fields := strings.Fields(withoutComment(line))
		if len(fields) == 0 {
			continue
		}
		switch keyword, values := fields[0], fields[1:]; keyword {
		case "nameserver":
			if len(values) == 0 {
				warnings = append(warnings, fmt.Sprintf("resolver configuration, line %d: nameserver without an address", number))
				continue
			}
			addr, err := netip.ParseAddr(values[0])
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("resolver configuration, line %d: nameserver %.60q is not an address", number, values[0]))
				continue
			}
			if addr = addr.Unmap(); !slices.Contains(resolver.Servers, addr) {
				resolver.Servers = append(resolver.Servers, addr)
			}
		case "search":
			resolver.Search = values
		case "domain":
			resolver.Search = values[:min(len(values), 1)]
		}
	}
	return resolver, warnings
}

// withoutComment cuts a line at a "#" or ";" that begins it or a word of it.
func withoutComment(line string) string {
	for i, c := range line {
		if (c == '#' || c == ';') && (i == 0 || strings.ContainsRune(" \t", rune(line[i-1]))) {
			return line[:i]
		}
	}
	return line
}
