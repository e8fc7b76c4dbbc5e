package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
)

// Notice is what the plugin that readies a pod for a wiring of somebody else's leaves for the server: what becomes of IPv6,
// and where the pod's routers are. That server has no privilege and no file in common with the plugin. So it is the alias of
// the pod's link, which anybody may read and which stays whatever becomes of the link's name, addresses and bridge.
type Notice struct {
	IPv6    string
	Routers []identity.Router
}

// noticeWord begins a notice. Each router is its gateway, its address, which is left out if it is the same, and its MAC.
const (
	noticeWord   = "podnic: ipv6="
	noticeRouter = " router="
)

// String is the alias. fits is how many of the routers have room in it.
func (n Notice) String() (alias string, fits int) {
	alias = noticeWord + n.IPv6
	for i, r := range n.Routers {
		address := ""
		if r.Address != r.Gateway {
			address = r.Address.String()
		}
		router := noticeRouter + strings.Join([]string{r.Gateway.String(), address, r.MAC.String()}, ",")
		if len(alias)+len(router) > maxAlias {
			return alias, i
		}
		alias += router
	}
	return alias, len(n.Routers)
}

// NoticeOf is what an alias says; false if it is none of these.
func NoticeOf(alias string) (n Notice, ok bool) {
	rest, ok := strings.CutPrefix(alias, noticeWord)
	if !ok {
		return n, false
	}
	parts := strings.Split(rest, noticeRouter)
	n.IPv6 = parts[0]
	if n.IPv6 == IPv6Auto || !slices.Contains(ipv6Modes, n.IPv6) {
		return Notice{}, false
	}
	for _, part := range parts[1:] {
		fields := strings.Split(part, ",")
		if len(fields) != 3 {
			return Notice{}, false
		}
		gateway, err := netip.ParseAddr(fields[0])
		r := identity.Router{Gateway: gateway, Address: gateway}
		if err == nil && fields[1] != "" {
			r.Address, err = netip.ParseAddr(fields[1])
		}
		if err == nil {
			r.MAC, err = identity.ParseMAC(fields[2])
		}
		if err != nil || checkRouter(r) != nil {
			return Notice{}, false
		}
		n.Routers = append(n.Routers, r)
	}
	return n, true
}

// Heed has the original know the routers of a notice. For gateways that it does not name nobody answered.
func (s *Snapshot) Heed(n Notice) { s.knowRouters(slices.Clone(n.Routers)) }

// knowRouters are the routers that were found; of the other gateways it is known that they were asked for.
func (s *Snapshot) knowRouters(found []identity.Router) {
	s.Routers = found
	for _, r := range s.RoutersWanted() {
		if !r.Address.IsValid() {
			s.Routers = append(s.Routers, identity.Router{Gateway: r.Gateway})
		}
	}
}
