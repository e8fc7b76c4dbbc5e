// Package confine drops what a process no longer needs: capabilities, new privileges, and files.
//
// All of it holds for every thread, and for good. It does not make a process safe against its own user: what the user owns
// and the process keeps, it can change.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	access "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Needs is what a process goes on to do.
type Needs struct {
	// Capabilities, such as unix.CAP_NET_RAW. Those that the process does not have it does not get.
	Capabilities []int
	// Directories in which files are read, written, made, renamed and removed, and directories made, and all below them. None
	// means that files are not restricted.
	Directories []string
	// Files that are read, now and when another has taken the place of one.
	Files []string
	// Sockets are unix sockets that are removed in the end.
	Sockets []string
}

// To takes everything from the process that it does not need. What a kernel does not know is left out; Landlock came with
// Linux 5.13, and may be off. An error means that something else may be left out as well.
func To(n Needs) error {
	// The time zone of logs is read when it is first needed, from a file that may not be readable then.
	_, _ = time.Now().Zone()
	// Landlock asks for it too, but must not be what it depends on.
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	return errors.Join(dropCapabilities(n.Capabilities), restrictFiles(n))
}

func dropCapabilities(needed []int) error {
	have, want := cap.GetProc(), cap.NewSet()
	for _, c := range needed {
		has, err := have.GetFlag(cap.Permitted, cap.Value(c))
		if err == nil && has {
			err = errors.Join(want.SetFlag(cap.Permitted, true, cap.Value(c)), want.SetFlag(cap.Effective, true, cap.Value(c)))
		}
		if err != nil {
			return fmt.Errorf("keep the capability %v: %w", cap.Value(c), err)
		}
	}
	// Ambient capabilities go with the inheritable ones. The bounding set stays, since it takes a capability to change, and
	// gives nothing to a process that takes no new privileges (capabilities(7), execve).
	if err := want.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// counters is where a program that counts what runs of it (built with the tag coverage, for tests) writes at its end. Others
// have no such place.
var counters = func() []string { return nil }

// restrictFiles has the rights to files of Landlock's fifth version. Sockets are left out: rules for TCP do not hold for
// MPTCP, and scopes are a thread's own here, so that on kernels before 6.15 the runtime could not signal its threads.
func restrictFiles(n Needs) error {
	if len(n.Directories) == 0 {
		return nil
	}
	const (
		read  = access.AccessFSReadFile
		write = read | access.AccessFSReadDir | access.AccessFSWriteFile | access.AccessFSTruncate |
			access.AccessFSMakeReg | access.AccessFSMakeDir | access.AccessFSRemoveFile
	)
	rules := []landlock.Rule{
		landlock.PathAccess(write, slices.Concat(n.Directories, counters())...).IgnoreIfMissing(),
		// Settings and what the process uses. Of other processes Landlock shows nothing that a debugger might ask for.
		landlock.PathAccess(read, "/proc").IgnoreIfMissing(),
	}
	for _, file := range n.Files {
		places, err := readable(file)
		if err != nil {
			return err
		}
		rules = append(rules, landlock.PathAccess(read, places...).IgnoreIfMissing())
	}
	for _, socket := range n.Sockets {
		rules = append(rules, landlock.PathAccess(access.AccessFSRemoveFile, filepath.Dir(socket)).IgnoreIfMissing())
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("restrict files by Landlock: %w", err)
	}
	return nil
}

// readable are the places that have to be readable for a file to be so. A program that changes a file mostly puts another one
// in its place, so it is the file's directory, and where it is a symbolic link also that of what it leads to. A file that is
// mounted, as a container's /etc/resolv.conf is, cannot be replaced: then it is that file alone.
func readable(file string) ([]string, error) {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, 0, &stat)
	if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return []string{file}, nil
	}
	places := []string{filepath.Dir(file)}
	target, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return places, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "find", Path: file, Err: err}
	}
	if dir := filepath.Dir(target); !slices.Contains(places, dir) {
		places = append(places, dir)
	}
	return places, nil
}
