// Package statedir opens the directories in which podnic keeps what it will believe later: one for each interface, and
// one for what has no interface.
//
// The state directory itself may be one that everybody can write, such as an emptyDir: anybody may rename, remove and
// replace what is in it, and put links, pipes and files there. So nothing is reached by a path that leads
// through it. A directory is opened from the descriptor of the one above, without following a link, and is believed only
// if its owner is one to believe and nobody else may write it; then the same holds for a file in it, which besides has to
// be a regular one, with one name. Paths are for messages alone.
//
// What it does not do: keep others from renaming or removing the whole directory, where the one above lets them. What
// podnic wrote is lost then, and not replaced.
package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Own is the name of the directory of what has no interface.
const Own = ".podnic"

// Reserved reports whether a link of that name cannot have a directory of its name: it is one of podnic's own, was the name of a
// file in the state directory before interfaces had directories, or is that of a socket which the documents put there.
func Reserved(name string) bool {
	switch name {
	case "record.json", "state.json", "provision.json", "attachment.json", "hook.lock", "hook.log", "hook.log.1", "serve.log", "serve.log.1", "metrics.sock":
		return true
	}
	return name == "" || strings.HasPrefix(name, ".") || strings.ContainsRune(name, '/')
}

// UntrustedError says that a directory or a file is not podnic's own, so that nothing in it is read or written.
type UntrustedError struct {
	Path string
	Why  string // such as "user 107 owns it (mode drwxrwxrwx)"
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%s is not podnic's own: %s", e.Path, e.Why)
}

// IsUntrusted reports whether err is of a directory or file that is not podnic's own.
func IsUntrusted(err error) bool {
	_, ok := errors.AsType[*UntrustedError](err)
	return ok
}

// Dir is an open directory that passed. Whatever becomes of its name, it stays the one that it was.
type Dir struct {
	f    *os.File
	path string
	// owners are the users whose files in it are believed.
	owners []uint32
}

// Open is that of a Root, for once. So are those that follow.
func Open(stateDir, name string, others ...uint32) (*Dir, error) {
	r := At(stateDir)
	defer r.Close()
	return r.Open(name, others...)
}

// OpenOwn is for once too.
func OpenOwn(stateDir, name string) (*Dir, error) {
	r := At(stateDir)
	defer r.Close()
	return r.OpenOwn(name)
}

// OpenTop is for once too.
func OpenTop(stateDir string, others ...uint32) (*Dir, error) {
	r := At(stateDir)
	defer r.Close()
	return r.OpenTop(others...)
}

// OpenOwnTop is for once too.
func OpenOwnTop(stateDir string) (*Dir, error) {
	r := At(stateDir)
	defer r.Close()
	return r.OpenOwnTop()
}

// Make is for once too.
func Make(stateDir, name string) (*Dir, error) {
	r := At(stateDir)
	defer r.Close()
	return r.Make(name)
}

// Interfaces is for once.
func Interfaces(stateDir string) ([]string, error) {
	r := At(stateDir)
	defer r.Close()
	return r.Interfaces()
}

// Beside is the name of a user's own directory of an interface, where that of the interface's name is another's: root has
// prepared what nobody serves.
func Beside(name string, uid uint32) string { return fmt.Sprintf(".%s.%d", name, uid) }

func isBeside(name string) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 2 || name[0] != '.' || Reserved(name[1:i]) {
		return false
	}
	_, err := strconv.ParseUint(name[i+1:], 10, 32)
	return err == nil
}

// MakeOrBeside is Make; where the directory is one that is believed, and another's, it makes one beside it.
func MakeOrBeside(stateDir, name string) (*Dir, error) {
	d, err := Make(stateDir, name)
	if !IsUntrusted(err) {
		return d, err
	}
	others, failed := Open(stateDir, name)
	if failed != nil {
		return nil, err
	}
	others.Close()
	return Make(stateDir, Beside(name, uint32(os.Geteuid())))
}

// RemoveBesides removes a file from the directories beside an interface's, each of which is looked for it only if it is the
// user's own whose id is in its name.
func (r *Root) RemoveBesides(name, file string) error {
	all, err := r.names()
	for _, n := range all {
		if !isBeside(n) || !strings.HasPrefix(n, "."+name+".") {
			continue
		}
		uid, _ := strconv.ParseUint(n[strings.LastIndexByte(n, '.')+1:], 10, 32)
		d, failed := r.openIn(n, []uint32{uint32(uid)})
		if IsUntrusted(failed) || errors.Is(failed, fs.ErrNotExist) {
			continue
		}
		if failed == nil {
			failed = errors.Join(d.Remove(file), d.Close())
		}
		err = errors.Join(err, failed)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || IsUntrusted(err) {
		return nil
	}
	return err
}

// check applies the rule to what was opened.
func (d *Dir) check(fd int, path string, kind uint32) (stat unix.Stat_t, err error) {
	if err := unix.Fstat(fd, &stat); err != nil {
		return stat, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	mode := fs.FileMode(stat.Mode & 0o777)
	if kind == unix.S_IFDIR {
		mode |= fs.ModeDir
	}
	why := ""
	switch {
	case stat.Mode&unix.S_IFMT != kind:
		why = "it is not a regular file"
	case !slices.Contains(d.owners, stat.Uid), mode&0o022 != 0:
		why = fmt.Sprintf("user %d owns it (mode %v)", stat.Uid, mode)
	case kind == unix.S_IFREG && stat.Nlink > 1:
		why = fmt.Sprintf("it has %d names", stat.Nlink)
	default:
		return stat, nil
	}
	return stat, &UntrustedError{path, why}
}

// Path is that of a file in the directory, for messages.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Fd is the directory's descriptor, which stays the directory's own.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// Close lets go of the directory. None, which is nil, is as good.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}

// Writable reports whether the effective user can make files in the directory (faccessat2(2)).
func (d *Dir) Writable() error {
	if err := unix.Faccessat(d.Fd(), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write", Path: d.path, Err: err}
	}
	return nil
}
