package network

import (
	"fmt"

	"github.com/podnic/podnic/network/plan"
)

// sourcesSysctl holds the ports that connections of the namespace come from, of IPv6 too.
const sourcesSysctl = "net/ipv4/ip_local_port_range"

// sources are the ports that the pod's connections come from, where a binding has to know.
func (s *session) sources(b plan.Binding) (r plan.PortRange, err error) {
	if b.Name() != plan.BindingShared {
		return r, nil
	}
	value, err := s.sysctl(sourcesSysctl)
	if err != nil {
		return r, plan.Refuse("the ports that the pod's connections come from are unknown: %w", err)
	}
	if r, err = plan.ParseSources(value); err != nil {
		return r, plan.Refuse("%w", err)
	}
	return r, nil
}

// sourcesWanted is what the range is to be: as it was asked for, or the proposed one where a guest would take the same ports.
// Empty: it is fine as it is.
func (s *session) sourcesWanted() (string, error) {
	asked := s.Options.Sources
	if asked == (plan.PortRange{}) {
		now, err := s.sources(plan.BindingOf(plan.BindingShared))
		if err != nil {
			return "", err
		}
		o := s.Options
		if o.Sources = now; o.CheckSources() == nil {
			return "", nil
		}
		if asked, err = plan.ParseSources(plan.PodSources); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d\t%d", asked.First, asked.Last), nil
}

// refuseSecondShared refuses to share the address of a second interface: the address by which guest and containers reach each
// other is one.
func (p *preparation) refuseSecondShared(v *discoveries) error {
	if p.names.Binding.Name() != plan.BindingShared {
		return nil
	}
	for _, d := range v.wired {
		if d.names.Binding.Name() == plan.BindingShared && d.nic.Index != p.found.nic.Index {
			return plan.Refuse("%s is shared already, and one interface of a pod can be: pass --interface %s,binding=redirect", d.names.Interface, p.names.Interface)
		}
	}
	return nil
}

// otherSources says that the pod's connections come from other ports than when it was wired.
func (s *session) otherSources(o plan.Options) string {
	now, err := s.sources(o.Names().Binding)
	if err != nil || now == o.Sources {
		return ""
	}
	return fmt.Sprintf("the pod's connections come from the ports %s since it was wired (net.ipv4.ip_local_port_range), and connections from ports outside %s fail: set it back, or restore and prepare again", now, o.Sources)
}
