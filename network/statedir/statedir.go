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

// Reserved reports whether a link of that name cannot have a directory of its name: it is one of podnic's, was the name of a
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
	// owners are who is believed to own a file in it.
	owners []uint32
}

// Open opens the directory of an interface to read: one that root owns, or the effective user, or one of the others. Where
// there is none, the error is fs.ErrNotExist.
func Open(stateDir, name string, others ...uint32) (*Dir, error) {
	return open(stateDir, name, believed(others))
}

// OpenOwn opens the directory of an interface to write: one that the effective user owns.
func OpenOwn(stateDir, name string) (*Dir, error) {
	return open(stateDir, name, []uint32{uint32(os.Geteuid())})
}

// Make opens the directory of an interface to write, and makes it if need be, as it makes the state directory: the latter
// for its owner alone, the former readable by all who may enter that.
func Make(stateDir, name string) (*Dir, error) {
	if Reserved(name) && name != Own && !isBeside(name) {
		return nil, fmt.Errorf("%q cannot be the name of a directory in %s", name, stateDir)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	above, err := openTop(stateDir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(above)
	// Asked first, since the answer to mkdir of a name that is there may be that the file system is read-only.
	var stat unix.Stat_t
	if err := unix.Fstatat(above, name, &stat, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(above, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &fs.PathError{Op: "mkdir", Path: filepath.Join(stateDir, name), Err: err}
		}
	}
	return openIn(above, stateDir, name, []uint32{uint32(os.Geteuid())})
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
func RemoveBesides(stateDir, name, file string) error {
	all, err := list(stateDir)
	for _, n := range all {
		if !isBeside(n) || !strings.HasPrefix(n, "."+name+".") {
			continue
		}
		uid, _ := strconv.ParseUint(n[strings.LastIndexByte(n, '.')+1:], 10, 32)
		d, failed := open(stateDir, n, []uint32{uint32(uid)})
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

// OpenTop opens the state directory itself, where podnic had its files before interfaces had directories. The rule is the
// same, so that what lies in a directory that others can write is lost.
func OpenTop(stateDir string, others ...uint32) (*Dir, error) {
	return open(stateDir, top, believed(others))
}

// OpenOwnTop opens it to write: then it has to be the effective user's.
func OpenOwnTop(stateDir string) (*Dir, error) {
	return open(stateDir, top, []uint32{uint32(os.Geteuid())})
}

// top is the state directory seen from itself.
const top = "."

// Interfaces lists the names in the state directory that could be of interfaces' directories. None of them is believed yet.
func Interfaces(stateDir string) ([]string, error) {
	names, err := list(stateDir)
	return slices.DeleteFunc(names, Reserved), err
}

func list(stateDir string) ([]string, error) {
	above, err := openTop(stateDir)
	if err != nil {
		return nil, err
	}
	fd, err := openat(above, top, unix.O_RDONLY|unix.O_DIRECTORY)
	unix.Close(above)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: stateDir, Err: err}
	}
	f := os.NewFile(uintptr(fd), stateDir)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func believed(others []uint32) []uint32 {
	return append([]uint32{0, uint32(os.Geteuid())}, others...)
}

func open(stateDir, name string, owners []uint32) (*Dir, error) {
	if Reserved(name) && name != Own && name != top && !isBeside(name) {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(stateDir, name), Err: fs.ErrNotExist}
	}
	above, err := openTop(stateDir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(above)
	return openIn(above, stateDir, name, owners)
}

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

func openIn(above int, stateDir, name string, owners []uint32) (*Dir, error) {
	path := filepath.Join(stateDir, name)
	fd, err := openat(above, name, unix.O_RDONLY|unix.O_DIRECTORY)
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
