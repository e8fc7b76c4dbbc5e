package holding

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a process that took flock on a namespace.
type Lock struct {
	pid     int
	uid     string // as /proc has it; empty where it is not told
	command string
	// Idle is why it cannot be a podnic that changes the namespace, and empty where it can.
	Idle string
}

func (h Lock) String() string {
	if h.command == "" {
		return fmt.Sprintf("process %d", h.pid)
	}
	return fmt.Sprintf("process %d of uid %s, %q", h.pid, h.uid, h.command)
}

// OfLock are those who took flock on the namespace, as far as /proc/locks shows them: the processes of its own process
// namespace and of those below. None where /proc is of another process namespace than this process.
func OfLock(n namespace) []Lock {
	where := Place(n)
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil
	}
	file, err := os.Open("/proc/locks")
	if err != nil {
		return nil
	}
	defer file.Close()
	// "1: FLOCK  ADVISORY  WRITE 4711 00:04:4026532281 0 EOF" (lock_get_status in fs/locks.c); one that waits has "->" after
	// its number.
	var list []Lock
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != where {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			list = append(list, judge(n, pid, where))
		}
	}
	return list
}

// Place is the namespace's inode as /proc/locks names it.
func Place(n namespace) string {
	var s unix.Stat_t
	_ = unix.Fstat(int(n.Fd()), &s) // fails on a closed file alone
	return fmt.Sprintf("%02x:%02x:%d", unix.Major(s.Dev), unix.Minor(s.Dev), s.Ino)
}

// judge finds out what a process is that took flock on a file. What cannot be found out counts for it.
func judge(n namespace, pid int, where string) Lock {
	h := Lock{pid: pid}
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		// A lock belongs to the open file. A podnic shares its own with nobody.
		h.Idle = "it has ended and left the lock to another process"
		return h
	}
	status, err := readStatus(pid)
	if err != nil {
		return h
	}
	h.uid, _, _ = strings.Cut(status["Uid"], "\t")
	h.command = cmp.Or(commandLine(pid), status["Name"])
	effective, err := strconv.ParseUint(status["CapEff"], 16, 64)
	switch {
	case err != nil:
	case effective&(1<<unix.CAP_NET_ADMIN) == 0: // without which podnic does not lock (probe.CheckCapabilities)
		h.Idle = "it has no CAP_NET_ADMIN"
	case below(n, pid):
		h.Idle = "its CAP_NET_ADMIN is that of a user namespace of its own"
	case without(pid, where):
		h.Idle = "it does not have what is locked"
	}
	return h
}

func readStatus(pid int) (map[string]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	fields := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, err
}

// below reports whether a process is for certain in a user namespace below the one that the network namespace is of: then
// no capability of it counts there (cap_capable in security/commoncap.c). To ask requires CAP_SYS_PTRACE, or its uid.
func below(n namespace, pid int) bool {
	owner, err := unix.IoctlRetInt(int(n.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(owner)
	at, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	for first := true; ; first = false {
		if sameFile(at, owner) {
			unix.Close(at)
			return !first
		}
		parent, err := unix.IoctlRetInt(at, unix.NS_GET_PARENT)
		unix.Close(at)
		if err != nil {
			return false
		}
		at = parent
	}
}

// without reports whether a process is for certain without the open file that is locked: then it is not the one that took
// the lock, but has its number now. where is the file as /proc has it.
func without(pid int, where string) bool {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // closed meanwhile
			return false
		}
		// "lock:	1: FLOCK  ADVISORY  WRITE 4711 00:04:4026532281 0 EOF" (show_fd_locks in fs/locks.c).
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 6 && f[0] == "lock:" && f[2] == "FLOCK" && f[6] == where {
				return false
			}
		}
	}
	return true
}

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
