package network

import (
	"cmp"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// Selection is an interface that a request asks for, as it is before anything is decided: what can be asked of a guest's domain
// before its taps are made.
type Selection struct {
	// Options are those that were asked for, with the name of the interface.
	Options plan.Options
	// Tap is the name of its tap: the one that was asked for, or that of the wiring that is there, or else the one that it will get.
	Tap string
	// MAC is the guest's.
	MAC identity.MAC
	// Wired says that the interface is wired.
	Wired bool
}

// Select finds out which interfaces a request asks for, and warns of those that cannot be given to a guest where it asks for
// all. Nothing is changed or locked.
func Select(req Request) (all []Selection, warnings []string, err error) {
	if err := req.check(); err != nil {
		return nil, nil, err
	}
	req.inspects = true
	s, err := open(req)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	v, err := s.discoverAll()
	if err != nil {
		return nil, nil, err
	}
	there := len(v.wired)
	err = s.eachFound(v, func(d *discovery, o plan.Options) error {
		one := Selection{Options: o, Tap: cmp.Or(o.Tap, d.names.Tap), MAC: d.nic.MAC}
		one.Options.Interface = d.names.Interface
		for _, w := range v.wired[:there] {
			if w != d {
				continue
			}
			original, err := s.of(d).before()
			if err != nil {
				return err
			}
			if original != nil {
				one.MAC = original.Link(plan.NIC).MAC
			}
			one.Wired = true
		}
		all = append(all, one)
		return nil
	})
	return all, s.warnings, err
}

// Only is the request for interfaces with these options, and no others.
func (r Request) Only(all ...plan.Options) Request {
	r.All, r.Interfaces = false, all
	if len(all) == 1 {
		r.Options, r.Interfaces = all[0], nil
	}
	return r
}
