package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Root is a state directory, which is opened when something in it first is, and once. Not for use by several goroutines.
type Root struct {
	path string
	fd   int // -1: it is not open
}

// At is the state directory of a path, where there need not be one yet. Callers close it.
func At(stateDir string) *Root { return &Root{stateDir, -1} }

// Close lets go of the state directory. What was opened in it stays open.
func (r *Root) Close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.fd = -1
}

// open opens the state directory, unless it is open.
func (r *Root) open() (err error) {
	if r.fd < 0 {
		r.fd, err = openTop(r.path)
	}
	return err
}

// Open opens the directory of an interface to read: one that root owns, or the effective user, or one of the others. Where
// there is none, the error is fs.ErrNotExist.
func (r *Root) Open(name string, others ...uint32) (*Dir, error) {
	return r.openIn(name, believed(others))
}

// OpenOwn opens the directory of an interface to write: one that the effective user owns.
func (r *Root) OpenOwn(name string) (*Dir, error) { return r.openIn(name, user()) }

// OpenTop opens the state directory itself, where podnic had its files before interfaces had directories. The rule is the
// same, so that what lies in a directory that others can write is lost.
func (r *Root) OpenTop(others ...uint32) (*Dir, error) { return r.openIn(top, believed(others)) }

// OpenOwnTop opens it to write: then it has to be the effective user's.
func (r *Root) OpenOwnTop() (*Dir, error) { return r.openIn(top, user()) }

// Make opens the directory of an interface to write, and makes it if need be, as it makes the state directory: the latter
// for its owner alone, the former readable by all who may enter that.
func (r *Root) Make(name string) (*Dir, error) {
	if Reserved(name) && name != Own && !isBeside(name) {
		return nil, fmt.Errorf("%q cannot be the name of a directory in %s", name, r.path)
	}
	if r.fd < 0 {
		if err := os.MkdirAll(r.path, 0o700); err != nil {
			return nil, err
		}
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	// Asked first, since the answer to mkdir of a name that is there may be that the file system is read-only.
	var stat unix.Stat_t
	if err := unix.Fstatat(r.fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(r.fd, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &fs.PathError{Op: "mkdir", Path: filepath.Join(r.path, name), Err: err}
		}
	}
	return r.openIn(name, user())
}

// top is the state directory seen from itself.
const top = "."

// Interfaces lists the names in the state directory that could be of interfaces' directories. None of them is believed yet.
func (r *Root) Interfaces() ([]string, error) {
	names, err := r.names()
	return slices.DeleteFunc(names, Reserved), err
}

// names lists the state directory.
func (r *Root) names() ([]string, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	fd, err := openat(r.fd, top, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: r.path, Err: err}
	}
	f := os.NewFile(uintptr(fd), r.path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func believed(others []uint32) []uint32 {
	return append([]uint32{0, uint32(os.Geteuid())}, others...)
}

// user is the effective one alone.
func user() []uint32 { return []uint32{uint32(os.Geteuid())} }

// openTop opens the state directory, whose path is the operator's up to its last component: a link there counts only if
// root or the effective user made it.
func openTop(stateDir string) (int, error) {
	path := filepath.Clean(stateDir)
	fd, err := openat(unix.AT_FDCWD, path, unix.O_PATH)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return -1, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fd, nil
	case unix.S_IFLNK:
	default:
		unix.Close(fd)
		return -1, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	defer unix.Close(fd)
	if !slices.Contains(believed(nil), stat.Uid) {
		return -1, &UntrustedError{path, fmt.Sprintf("it is a symbolic link that user %d made", stat.Uid)}
	}
	// The target of this very link, which may have been replaced by another in the meantime.
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return -1, &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	to := string(target[:n])
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(path), to)
	}
	end, err := openat(unix.AT_FDCWD, to, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: to, Err: err}
	}
	return end, nil
}

// openIn opens a directory that is in it.
func (r *Root) openIn(name string, owners []uint32) (*Dir, error) {
	path := filepath.Join(r.path, name)
	if Reserved(name) && name != Own && name != top && !isBeside(name) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	fd, err := openat(r.fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, &UntrustedError{path, "it is not a directory"}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Dir{f: os.NewFile(uintptr(fd), path), path: path, owners: owners}
	if _, err := d.check(fd, path, unix.S_IFDIR); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openat never follows a link at the end of the path, and never waits for the other end of a pipe.
func openat(dir int, path string, flags int) (int, error) {
	if flags&unix.O_DIRECTORY == 0 {
		flags |= unix.O_NONBLOCK
	}
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_CLOEXEC, 0o600)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
