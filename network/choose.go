package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// choice is a binding for an interface that is not wired.
type choice struct {
	names plan.Names
	// why says for what reason it was chosen, where nobody asked for it by name.
	why string
	// byTC says why tc redirects, where that is known.
	byTC string
	// current is the namespace as the binding sees it.
	current *plan.Snapshot
}

// choose settles on the binding that was asked for, or, where that is left to podnic, on the first that accepts the link and
// all that is on it. Where none does, the refusal has each one's reason.
func (s *session) choose(o plan.Options) (*choice, error) {
	o.Interface, o.Tap = s.found.names.Interface, s.found.names.Tap
	if o.Binding != plan.BindingAuto && o.Binding != "" {
		return s.try(o)
	}
	var refusals []error
	why := ""
	for _, name := range plan.Automatic {
		o.Binding = name
		c, err := s.try(o)
		if err == nil {
			why = fmt.Sprintf("--binding auto: %s takes %s%s; %s", name, o.Interface, why, c.byTC)
			c.why = strings.TrimSuffix(why, "; ")
			return c, nil
		}
		if !IsRefusal(err) {
			return nil, err
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", name, err))
		why += fmt.Sprintf(", and %s does not: %v", name, err)
	}
	return nil, &plan.RefusalError{Reason: joined(refusals)}
}

// joined is the first alone where the others say the same.
func joined(refusals []error) error {
	said := make(map[string]bool)
	var all []error
	for _, r := range refusals {
		if text := errors.Unwrap(r).Error(); !said[text] {
			said[text] = true
			all = append(all, r)
		}
	}
	if len(all) == 1 {
		return errors.Unwrap(all[0])
	}
	list := make([]string, len(all))
	for i, r := range all {
		list[i] = r.Error()
	}
	return errors.New(join(list))
}

// try asks a binding.
func (s *session) try(o plan.Options) (*choice, error) {
	c := &choice{names: o.Names()}
	nexthops, err := s.rtnl.NexthopObjects(s.found.nic.Index)
	if err != nil {
		return nil, err
	}
	if err := c.names.Binding.Accepts(s.found.nic, s.found.all, nexthops); err != nil {
		return nil, err
	}
	if c.current, err = s.read(s.found.all, s.found.nic.Index, c.names); err != nil {
		return nil, asRefusal(err)
	}
	has6 := slices.ContainsFunc(c.current.Addresses, func(a plan.Address) bool { return !a.Is4() })
	if has6 && !c.names.Binding.KeepsNIC() && s.newLinksLackIPv6() {
		return nil, plan.Refuse("%s has IPv6 addresses, and no link that is made could keep them, since those have no IPv6 (net.ipv6.conf.default.disable_ipv6 is 1): "+
			"set it to 0 in the pod's namespace, or use --binding redirect", o.Interface)
	}
	if c.names.Binding.KeepsNIC() {
		if err := s.tryTC(o, c); err != nil {
			return nil, err
		}
		c.why = c.byTC
	}
	return c, nil
}

// newLinksLackIPv6 reports whether links that are made have no IPv6. Only a process that may write /proc/sys can give it to them.
func (s *session) newLinksLackIPv6() bool {
	value, err := s.sysctl("net/ipv6/conf/default/disable_ipv6")
	return err == nil && value == "1"
}

// newMark is what a redirect tells the guest's frames by.
func newMark(b plan.Binding) uint32 {
	if !b.KeepsNIC() || plan.ByTC(b) {
		return 0
	}
	return rtnl.NewMark()
}
