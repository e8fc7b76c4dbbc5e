package doctor

import (
	"fmt"
	"path"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
)

// ipv6 says what becomes of IPv6, and what the guest's takes.
func (v *visit) ipv6() outcome {
	if reason := v.withoutIPv6(v.seen.Current.Link(plan.NIC)); reason != "" {
		return ok("%s has no IPv6: %s", v.r.Name, reason)
	}
	id, _ := v.seen.Identity()
	mode := v.seen.Options.IPv6For(v.seen.Original)
	if mode != plan.IPv6Serve {
		return ok("IPv6 is not served, and %s", map[string]string{plan.IPv6Pass: "passes", plan.IPv6Off: "none of its frames crosses"}[mode])
	}
	if value, err := probe.Sysctl(v.ns, "net/ipv6/conf/default/disable_ipv6"); err == nil && value == "1" && !v.seen.Wired {
		return warn("links that are made here have no IPv6 (net.ipv6.conf.default.disable_ipv6 is 1), so none is served, and a bridge is refused").
			but("set net.ipv6.conf.default.disable_ipv6 to 0 in the pod's namespace before the interface is wired")
	}
	for _, r := range id.Routers {
		if r.Answered && !r.MAC.IsZero() {
			return warn("the router %s has no link-local address that anybody on the pod network answers for, so podnic does, and the guest's IPv6 ends when podnic does", r.Gateway)
		}
	}
	if v.seen.Wired && id.V6.Gateway.IsValid() && len(id.Routers) > 0 {
		return ok("IPv6 is served, and the guest's router is %s at %s", id.Routers[0].Gateway, id.Routers[0].Address)
	}
	return ok("IPv6 is served")
}

// minIPv6MTU is the least that a link of IPv6 carries (RFC 8200, 5).
const minIPv6MTU = 1280

// withoutIPv6 is why a link has no IPv6; empty where it has.
func (v *visit) withoutIPv6(nic *plan.Link) string {
	value, err := probe.Sysctl(v.ns, path.Join("net/ipv6/conf", nic.Name, "disable_ipv6"))
	switch {
	case nic.MTU < minIPv6MTU:
		return fmt.Sprintf("its MTU is %d, and IPv6 requires at least %d", nic.MTU, minIPv6MTU)
	case nic.AddrGenMode == "":
		return "the kernel has none (ipv6.disable=1)"
	case err == nil && value == "1":
		return fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6 is 1", nic.Name)
	}
	return ""
}
