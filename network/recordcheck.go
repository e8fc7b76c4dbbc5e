package network

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

// What comes from a file is input, no matter who wrote it: restore sets links, addresses and routes by it. So a record is looked
// through before anything is done, and can speak of one link alone, the pod's own, of the index that the wiring's mark names
// (session.recorded). In here are the lengths and ranges that the kernel has for what we set; what it refuses besides, it
// refuses.

// check refuses a record of which something cannot be.
func (r *Record) check() error {
	switch {
	case r.Version < 1:
		return errors.New("it has no version")
	case r.Original == nil || r.Original.Link(plan.NIC) == nil:
		return errors.New("it does not hold the pod's interface")
	case r.Namespace.Boot == "" || r.Namespace.Cookie == 0:
		return errors.New("it names no namespace")
	case !plan.ValidName(r.Options.Interface) || statedir.Reserved(r.Options.Interface):
		return fmt.Errorf("%q cannot be the name of an interface", r.Options.Interface)
	case r.Repairs < 0:
		return fmt.Errorf("it counts %d repairs", r.Repairs)
	}
	if !r.managed() {
		if _, err := r.Options.Normal(); err != nil {
			return err
		}
	}
	return r.Original.Check(r.Options.Interface)
}
