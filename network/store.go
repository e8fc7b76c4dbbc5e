package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
	"golang.org/x/sys/unix"
)

// Store is the place of an interface's record: a directory of its name in the state directory.
type Store struct{ Dir, Interface string }

// Path is where the record lies, or will.
func (s Store) Path() string { return s.path(recordFile) }

func (s Store) path(name string) string { return filepath.Join(s.Dir, s.Interface, name) }

// openStore is a store whose state directory is opened once for all that is done.
type openStore struct {
	Store
	root *statedir.Root
}

func (s Store) open() openStore { return openStore{s, statedir.At(s.Dir)} }

func (s openStore) close() { s.root.Close() }

// of is the store of another interface, in the same directory.
func (s openStore) of(iface string) openStore { return openStore{Store{s.Dir, iface}, s.root} }

// read reads a file of the interface; nil when there is none.
func (s openStore) read(name string, others ...uint32) ([]byte, error) {
	d, err := s.root.Open(s.Interface, others...)
	if err == nil {
		defer d.Close()
		var b []byte
		if b, err = d.Read(name); err == nil {
			return b, nil
		}
	}
	return nil, unlessMissing(err)
}

// readFirst reads a file in the place that files of version 1 had; nil when there is none.
func (s openStore) readFirst(name string, others ...uint32) ([]byte, error) {
	d, err := s.root.OpenTop(others...)
	if err == nil {
		defer d.Close()
		var b []byte
		if b, err = d.Read(name); err == nil {
			return b, nil
		}
	}
	if statedir.IsUntrusted(err) {
		if _, none := os.Lstat(filepath.Join(s.Dir, name)); none != nil {
			return nil, nil // the state directory is an emptyDir, say, and nothing of version 1 in it
		}
	}
	return nil, unlessMissing(err)
}

func unlessMissing(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil || statedir.IsUntrusted(err):
		return err
	}
	return plan.Refuse("the record cannot be read: %w", err)
}

// Load reads the record; nil when there is none. A record that cannot be used is a refusal that says why. One that is not
// to be believed, since others could have written it or put it there, is an error of which [IsLost] is true: what the
// namespace itself carries has to do.
func (s Store) Load() (*Record, error) { return s.load() }

// load also believes what others have written.
func (s Store) load(others ...uint32) (*Record, error) {
	o := s.open()
	defer o.close()
	b, err := o.read(recordFile, others...)
	if err != nil || b == nil {
		if first, failed := o.loadFirst(others...); first != nil || failed != nil {
			return first, failed
		}
		return nil, err
	}
	r, err := decodeRecord(b, s.Path())
	if err != nil {
		return nil, err
	}
	if r.Options.Interface != s.Interface {
		return nil, &statedir.UntrustedError{Path: s.Path(), Why: fmt.Sprintf("it is of the interface %s", r.Options.Interface)}
	}
	return r, nil
}

// loadFirst reads a record of version 1 that is of this interface.
func (s openStore) loadFirst(others ...uint32) (*Record, error) {
	b, err := s.readFirst(recordFile, others...)
	if err != nil || b == nil {
		return nil, err
	}
	if version, err := versionOf(b); err == nil && version > 1 {
		return nil, nil // it is there for a podnic of version 1
	}
	r, err := decodeRecord(b, filepath.Join(s.Dir, recordFile))
	if err != nil || s.Interface != "" && r.Options.Interface != s.Interface {
		return nil, err
	}
	r.first = true
	return r, nil
}

// Save replaces the record atomically: a reader finds the old one or the new one, also after a power cut. A record
// of version 1 stays what it is, where it is.
func (s Store) Save(r *Record) error {
	o := s.open()
	defer o.close()
	if r.first {
		d, err := o.root.OpenOwnTop()
		if err != nil {
			return fmt.Errorf("write the record: %w", err)
		}
		defer d.Close()
		return write(d, recordFile, r)
	}
	r.Version = recordVersion
	if err := o.save(recordFile, r); err != nil {
		return err
	}
	o.markFirst(r.Namespace)
	return nil
}

// save writes a file of the interface.
func (s openStore) save(name string, record any) error {
	d, err := s.root.Make(s.Interface)
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	defer d.Close()
	return write(d, name, record)
}

func write(d *statedir.Dir, name string, record any) error {
	b, err := json.MarshalIndent(record, "", "  ")
	if err == nil {
		err = d.Write(name, append(b, '\n'), 0o600, true)
	}
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	return nil
}

// marker is what lies in the place of version 1 while an interface is wired: a podnic of version 1 refuses by it, and does
// not take the record for lost.
var marker = []byte("{\"version\":2}\n")

// markFirst puts the marker there, also in the place of a record that has moved, unless another namespace's is there, or
// others can write there: then a podnic of version 1 is on its own.
func (s openStore) markFirst(id NamespaceID) {
	d, err := s.root.OpenOwnTop()
	if err != nil {
		return
	}
	defer d.Close()
	b, err := d.Read(recordFile)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist), err == nil && string(b) == string(marker):
		return
	case err == nil:
		if version, err := versionOf(b); err == nil && version > 1 {
			break
		}
		// That of another interface moves when that one is changed.
		if r, err := decodeRecord(b, filepath.Join(s.Dir, recordFile)); err != nil || r.Namespace != id || r.Options.Interface != s.Interface {
			return
		}
	}
	// What may be lost is a refusal of another program, and a power cut ends the namespace as well.
	_ = d.Write(recordFile, marker, 0o600, false)
}

// Remove deletes the record, wherever it lies, and what is there for a podnic of version 1. One that is not there is as
// good, and one that is not podnic's own, or of another interface, is left.
func (s Store) Remove() error {
	o := s.open()
	defer o.close()
	b, err := o.read(recordFile)
	if err != nil || b == nil || !ofAnother(b, s.Interface) {
		if err := o.remove(recordFile); err != nil {
			return err
		}
	}
	b, err = o.readFirst(recordFile)
	if err == nil && b == nil {
		return nil
	}
	if version, err := versionOf(b); err == nil && version > 1 {
		if o.others() {
			return nil
		}
	} else if ofAnother(b, s.Interface) {
		return nil
	}
	return o.removeFirst(recordFile)
}

// ofAnother reports whether a record is of another interface, and whole: a damaged one belongs to none.
func ofAnother(b []byte, iface string) bool {
	var r struct {
		Options struct {
			Interface string `json:"interface"`
		} `json:"options"`
	}
	if err := json.Unmarshal(b, &r); err != nil || r.Options.Interface == iface {
		return false
	}
	_, damaged := decodeRecord(b, "")
	return damaged == nil
}

// others reports whether another interface has a record.
func (s openStore) others() bool {
	names, _ := s.root.Interfaces()
	for _, name := range names {
		if b, err := s.of(name).read(recordFile); name != s.Interface && err == nil && b != nil {
			return true
		}
	}
	return false
}

func (s openStore) remove(name string) error {
	d, err := s.root.OpenOwn(s.Interface)
	return removeIn(d, err, name)
}

// removeFirst deletes a file in the place of version 1.
func (s openStore) removeFirst(name string) error {
	d, err := s.root.OpenOwnTop()
	return removeIn(d, err, name)
}

// removeIn deletes a file in a directory that was opened. Where there is none, or it is not podnic's own, nothing is.
func removeIn(d *statedir.Dir, err error, name string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), statedir.IsUntrusted(err):
		return nil
	case err == nil:
		defer d.Close()
		err = d.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("remove the record: %w", err)
	}
	return nil
}

// Writable makes the interface's directory if need be, and tells before anything is changed whether a record could be
// written.
func (s Store) Writable() error {
	d, err := statedir.Make(s.Dir, s.Interface)
	if statedir.IsUntrusted(err) {
		return plan.Refuse("%w, and nothing is written there: remove it, or name another directory with --state-dir", err)
	}
	if err == nil {
		defer d.Close()
		// Asked and not tried: a process that is killed while it tries leaves a file behind. That the disk is full shows when the
		// record is written, which is before anything is changed.
		err = d.Writable()
	}
	if err != nil {
		return plan.Refuse("the state directory cannot be made or written (%w): mount something writable there (an emptyDir will do), or name another with --state-dir", err)
	}
	return nil
}

// MakeStateDir makes a state directory if need be, and tells whether directories could be made in it.
func MakeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return plan.Refuse("the state directory cannot be made (%w): name a directory that can be written with --state-dir", err)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return plan.Refuse("the state directory %s cannot be written (%w): mount something writable there (an emptyDir will do), or name another with --state-dir", dir, err)
	}
	return nil
}

// Forget removes what is believed of an interface's record where that cannot be used, so that what the namespace itself
// carries has to do.
func Forget(req Request) error { return Store{req.StateDir, req.Options.Interface}.Remove() }
