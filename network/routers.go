package network

import (
	"slices"

	"github.com/podnic/podnic/network/gateways"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// lookForRouters completes the original, where IPv6 is served and a router was not found before.
func (p *preparation) lookForRouters() {
	original := p.record.Original
	if p.record.Options.IPv6For(original) != plan.IPv6Serve || !p.found.nic.Up {
		return
	}
	age, err := p.rtnl.IPv6Age(p.found.nic.Index)
	if err != nil {
		p.warnings = append(p.warnings, err.Error())
	}
	wait := gateways.RouterUp
	if p.settled {
		age, wait = gateways.RouterUp, 0
	}
	mark := uint32(0)
	if p.found.wired() {
		mark, wait = p.record.Options.Mark, 0
	}
	p.rtnl.Forget() // to ask takes up to seconds
	found, err := gateways.FindRouters(p.ns, p.found.nic.Name, mark, original, age, wait)
	if err != nil {
		p.warnings = append(p.warnings, err.Error())
	}
	for _, r := range found {
		original.Routers = slices.DeleteFunc(original.Routers, func(o identity.Router) bool { return o.Gateway == r.Gateway })
		original.Routers, p.fresh = append(original.Routers, r), true
	}
}
