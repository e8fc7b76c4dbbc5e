// Package statefile is the small file in which a serving process says how far things are, for `podnic status`, probes, and
// the process that serves next. It knows nothing of the process but what is in the file.
package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// stateVersion is raised when an older podnic would misread the file.
const stateVersion = 1

// State is what a serving process tells others of itself, in one file that is replaced as a whole. What the kernel knows
// better is not in it.
type State struct {
	Version   int                 `json:"version"`
	Namespace network.NamespaceID `json:"namespace"`
	// Ready is since when the server can hear the guest; zero while it cannot.
	Ready time.Time `json:"ready,omitzero"`
	// Failed is why podnic gave up, if it did.
	Failed string      `json:"failed,omitempty"`
	Lease  dhcp.Lease  `json:"lease"`
	Offer  *dhcp.Offer `json:"offer,omitempty"`
	// Offer6 and Lease6 are those of IPv6; nil where it is not served.
	Offer6 *dhcp.Offer6 `json:"offer6,omitempty"`
	Lease6 *dhcp.Lease6 `json:"lease6,omitempty"`
	Domain *Domain      `json:"domain,omitempty"`
	// GuestLink is what a serving process has done to the link of the guest, nil if nothing.
	GuestLink *GuestLink `json:"guestLink,omitempty"`
	Server    *Process   `json:"server,omitempty"`
	Warnings  []string   `json:"warnings,omitempty"`
	Timeline  Timeline   `json:"timeline"`

	// First says that it lies where podnic of record version 1 had it.
	First bool `json:"-"`
}

// InUse reports whether the guest has an address of either family at a time, as far as is known.
func (s *State) InUse(at time.Time) bool {
	return s.Lease.At(at).InUse() || s.Lease6 != nil && s.Lease6.At(at).InUse()
}

// Domain is the guest as libvirt sees it.
type Domain struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

// GuestLink is the guest's end of the tap, as far as podnic sets it.
type GuestLink struct {
	// Lowered says that podnic has taken it down, since the pod's interface has no carrier.
	Lowered bool      `json:"lowered"`
	Since   time.Time `json:"since"`
}

const stateFile = "state.json"

// Load reads the state file of an interface, which root wrote, the effective user, or one of the others. There is none
// when nobody has served; one of another namespace does not count. A server of a podnic that kept one interface has its file in
// the state directory itself, and it counts while that server is the later one.
func Load(stateDir, iface string, id network.NamespaceID, others ...uint32) (*State, error) {
	root := statedir.At(stateDir)
	defer root.Close()
	d, err := root.Open(iface, others...)
	state, err := loadState(d, err, id)
	for _, user := range append([]uint32{uint32(os.Geteuid())}, others...) {
		d, besideErr := root.Open(statedir.Beside(iface, user), others...)
		if beside, _ := loadState(d, besideErr, id); beside != nil && (state == nil || state.startedBefore(beside)) {
			state, err = beside, nil
		}
	}
	d, firstErr := root.OpenTop(others...)
	if first, _ := loadState(d, firstErr, id); first != nil && (state == nil || state.startedBefore(first)) {
		first.First = true
		return first, nil
	}
	return state, err
}

func (s *State) startedBefore(o *State) bool {
	return o.Server != nil && (s.Server == nil || s.Server.Start < o.Server.Start)
}

func loadState(d *statedir.Dir, err error, id network.NamespaceID) (*State, error) {
	var b []byte
	if err == nil {
		defer d.Close()
		b, err = d.Read(stateFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's state: %w", err)
	}
	s, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("read the server's state %s: %w", d.Path(stateFile), err)
	}
	if s.Version != stateVersion || s.Namespace != id {
		return nil, nil
	}
	return s, nil
}

// Remove deletes the file. One that is not podnic's own stays.
func Remove(stateDir, iface string) error {
	root := statedir.At(stateDir)
	defer root.Close()
	d, err := root.OpenOwn(iface)
	err = errors.Join(removeState(d, err), root.RemoveBesides(iface, stateFile))
	d, firstErr := root.OpenOwnTop()
	return errors.Join(err, removeState(d, firstErr))
}

// HasFirst reports whether there may be a file where podnic of record version 1 had it.
func HasFirst(stateDir string) bool {
	_, err := os.Lstat(filepath.Join(stateDir, stateFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// RemoveFirst deletes the file where podnic of record version 1 had it. One that is not podnic's own stays.
func RemoveFirst(stateDir string) error {
	d, err := statedir.OpenOwnTop(stateDir)
	return removeState(d, err)
}

func removeState(d *statedir.Dir, err error) error {
	if errors.Is(err, fs.ErrNotExist) || statedir.IsUntrusted(err) {
		return nil
	}
	if err == nil {
		defer d.Close()
		err = d.Remove(stateFile)
	}
	if err != nil {
		return fmt.Errorf("remove the server's state: %w", err)
	}
	return nil
}
