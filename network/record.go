package network

import (
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

// recordVersion is raised when an older podnic could not put back what a newer one recorded. Version 1 was of the one
// interface that podnic served, and lay in the state directory itself.
const recordVersion = 2

const recordFile = "record.json"

// Record is what prepare leaves on disk before its first change: all that it takes to undo the wiring.
type Record struct {
	Version   int            `json:"version"`
	Namespace NamespaceID    `json:"namespace"`
	Options   plan.Options   `json:"options"`
	Original  *plan.Snapshot `json:"original"`
	Prepared  time.Time      `json:"prepared"`
	// Domain is the guest that was given the interface, once somebody starts one.
	Domain *DomainRef `json:"domain,omitempty"`
	// Repairs is how often a later prepare found the wiring not as it should be, and mended it.
	Repairs int `json:"repairs,omitempty"`
	// Why says for what reason the binding was chosen, where nobody asked for it by name.
	Why string `json:"why,omitempty"`

	// first says that the record is one of version 1 in the place of those.
	first bool
}

// DomainRef names a libvirt domain. The UUID is empty until libvirt has said it.
type DomainRef struct {
	Name string `json:"name"`
	UUID string `json:"uuid,omitempty"`
}

// Is reports whether it is the domain of that name and, where both are known, UUID. Nil is none.
func (d *DomainRef) Is(name, uuid string) bool {
	switch {
	case d == nil:
		return false
	case d.UUID != "" && uuid != "":
		return d.UUID == uuid
	}
	return d.Name == name
}

// IsLost reports whether err means that there is something where a record would be, and that it is not to be believed.
func IsLost(err error) bool { return statedir.IsUntrusted(err) }

func versionOf(b []byte) (int, error) {
	var v struct {
		Version int `json:"version"`
	}
	err := json.Unmarshal(b, &v)
	return v.Version, err
}

func decodeRecord(b []byte, path string) (*Record, error) {
	damaged := func(err error) error {
		return plan.Refuse("the record %s is damaged (%w): move it away, and podnic goes by what the namespace itself carries", path, err)
	}
	r := new(Record)
	err := json.Unmarshal(b, r)
	version := r.Version
	if err != nil {
		version, _ = versionOf(b) // a newer one may be of another form
	}
	if version > recordVersion {
		return nil, plan.Refuse("the record %s was written by a newer podnic (version %d, this one reads up to %d): use that podnic", path, version, recordVersion)
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, damaged(err)
	}
	r.Original.Filter = nil // one that is podnic's own was left over, and is not put back
	return r, nil
}

// managed reports whether the record is of an interface that KubeVirt wires: it cannot be put back by podnic.
func (r *Record) managed() bool { return !r.Options.Ours() }

// path is where the record lies, in a state directory.
func (r *Record) path(stateDir string) string {
	if r.first {
		return filepath.Join(stateDir, recordFile)
	}
	return Store{stateDir, r.Options.Interface}.Path()
}

// checkReserved refuses an interface whose directory would have the name of one of podnic's own files.
func checkReserved(iface string) error {
	if statedir.Reserved(iface) {
		return plan.Refuse("an interface called %s cannot be served, since podnic has a file of that name: rename it (ip link set %s name eth0)", iface, iface)
	}
	return nil
}

// records are those of all interfaces that a state directory has, of whatever namespace. What is not to be believed, or is
// damaged, is none. What others have written is believed too.
func records(stateDir string, others ...uint32) []*Record {
	o := Store{Dir: stateDir}.open()
	defer o.close()
	names, _ := o.root.Interfaces()
	var all []*Record
	for _, name := range names {
		s := o.of(name)
		if b, err := s.read(recordFile, others...); err == nil && b != nil {
			if r, err := decodeRecord(b, s.Path()); err == nil && r.Options.Interface == name {
				all = append(all, r)
			}
		}
	}
	if first, err := o.loadFirst(others...); err == nil && first != nil {
		all = append(all, first)
	}
	return all
}
