package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// recordVersion is raised when an older podnic could not put back what a newer one recorded.
const recordVersion = 1

const recordFile = "record.json"

// Record is what prepare leaves on disk before its first change: all that it takes to undo the wiring.
type Record struct {
	Version   int         `json:"version"`
	Namespace NamespaceID `json:"namespace"`
	Options   Options     `json:"options"`
	Original  *Snapshot   `json:"original"`
	Prepared  time.Time   `json:"prepared"`
	// Domain is the guest that was given the interface, once somebody starts one.
	Domain *DomainRef `json:"domain,omitempty"`
	// Repairs is how often a later prepare found the wiring not as it should be, and mended it.
	Repairs int `json:"repairs,omitempty"`
}

// DomainRef names a libvirt domain. The UUID is empty until libvirt has said it.
type DomainRef struct {
	Name string `json:"name"`
	UUID string `json:"uuid,omitempty"`
}

// Store is the state directory.
type Store struct{ Dir string }

// Path is where the record lies.
func (s Store) Path() string { return filepath.Join(s.Dir, recordFile) }

// Load reads the record; nil when there is none. A record that cannot be used is a refusal that says why.
func (s Store) Load() (*Record, error) {
	b, err := os.ReadFile(s.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, Refuse("the record cannot be read: %w", err)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, Refuse("the record %s is damaged (%w): move it away, and podnic goes by what the namespace itself carries", s.Path(), err)
	}
	if version.Version > recordVersion {
		return nil, Refuse("the record %s was written by a newer podnic (version %d, this one reads up to %d): use that podnic", s.Path(), version.Version, recordVersion)
	}
	r := new(Record)
	err = json.Unmarshal(b, r)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return nil, Refuse("the record %s is damaged (%w): move it away, and podnic goes by what the namespace itself carries", s.Path(), err)
	}
	return r, nil
}

func (r *Record) check() error {
	switch {
	case r.Version < 1:
		return errors.New("it has no version")
	case r.Original == nil || r.Original.Link(NIC) == nil:
		return errors.New("it does not hold the pod's interface")
	case r.Namespace.Boot == "" || r.Namespace.Cookie == 0:
		return errors.New("it does not say which namespace it is of")
	}
	if r.managed() {
		return nil
	}
	_, err := r.Options.normal()
	return err
}

// managed reports whether the record is of an interface that KubeVirt wires: it cannot be put back by podnic.
func (r *Record) managed() bool { return r.Options.Binding == BindingManagedTap }

// Save replaces the record atomically: whoever reads it finds the old one or the new one, also after a power cut.
func (s Store) Save(r *Record) error { return s.save(recordFile, r) }

func (s Store) save(name string, record any) error {
	b, err := json.MarshalIndent(record, "", "  ")
	if err == nil {
		err = WriteFile(filepath.Join(s.Dir, name), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

// Remove deletes the record. One that is not there is as good.
func (s Store) Remove() error { return s.remove(recordFile) }

func (s Store) remove(name string) error {
	if err := os.Remove(filepath.Join(s.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record: %w", err)
	}
	return syncDir(s.Dir)
}

// Writable makes the directory if need be, and tells before anything is changed whether a record could be written.
func (s Store) Writable() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return Refuse("the state directory cannot be made (%w): name a directory that can be written with --state-dir", err)
	}
	// Asked and not tried: whoever is killed while it tries leaves a file behind. That the disk is full shows when the record
	// is written, which is before anything is changed.
	if err := unix.Faccessat(unix.AT_FDCWD, s.Dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return Refuse("the state directory %s cannot be written (%w): mount something writable there (an emptyDir will do), or name another with --state-dir", s.Dir, err)
	}
	return nil
}

// WriteFile replaces a file atomically (write, fsync, rename, fsync of the directory), readable by the owner alone.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
