package holding

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Socket is the holder of an abstract unix socket (unix(7)) of a namespace. The first process to bind a name has it, and that
// requires no privilege: only the kernel can say which one it is.
type Socket struct {
	// Name is the socket's, without the zero byte that makes it abstract.
	Name string
	// UID is the user that made the socket. It stays with the socket, also when that is passed on.
	UID uint32

	inode uint32
}

// OfSockets lists the holders of datagram sockets whose abstract names begin with a prefix.
func OfSockets(n namespace, prefix string) (holders []Socket, err error) {
	err = n.Do(func() error {
		if holders, err = diagnosed(); errors.Is(err, unix.ENOENT) { // without CONFIG_UNIX_DIAG
			holders, err = listed()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the unix sockets of %s: %w", n, err)
	}
	return slices.DeleteFunc(holders, func(h Socket) bool { return !strings.HasPrefix(h.Name, prefix) }), nil
}

// diagnosed are the abstract datagram sockets of the calling thread's namespace.
func diagnosed() (holders []Socket, err error) {
	sockets, err := rtnl.DatagramSockets()
	for _, u := range sockets {
		holders = append(holders, Socket{Name: u.Name, UID: u.UID, inode: u.Inode})
	}
	return holders, err
}

// unknownUser is not a user's id (overflowuid is another): it stands for a socket whose owner the kernel does not name.
const unknownUser = ^uint32(0)

// listed is what /proc/net/unix says of them, where the user is that of the process that has the socket, if it is to be
// seen.
func listed() (holders []Socket, err error) {
	b, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		// Num RefCount Protocol Flags Type St Inode Path, where @ stands for the zero byte
		f := strings.Fields(line)
		if len(f) != 8 || f[4] != "0002" || !strings.HasPrefix(f[7], "@") {
			continue
		}
		inode, err := strconv.ParseUint(f[6], 10, 32)
		if err != nil {
			return nil, err
		}
		h := Socket{Name: f[7][1:], UID: unknownUser, inode: uint32(inode)}
		var stat unix.Stat_t
		if pid := h.Process(); pid > 0 && unix.Stat(fmt.Sprintf("/proc/%d", pid), &stat) == nil {
			h.UID = stat.Uid
		}
		holders = append(holders, h)
	}
	return holders, nil
}

// OfSocket is the holder of the datagram socket of an abstract name; nil if there is none.
func OfSocket(n namespace, name string) (*Socket, error) {
	holders, err := OfSockets(n, name)
	for _, h := range holders {
		if h.Name == name {
			return &h, nil
		}
	}
	return nil, err
}

// Trusted reports whether the socket belongs to root or to the effective user.
func (h *Socket) Trusted() bool { return h.UID == 0 || h.UID == uint32(os.Geteuid()) }

// HeldBy reports whether a process has the socket open. Of a process that this one may not look at it is false: of another
// user's, or in another PID namespace.
func (h *Socket) HeldBy(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	wanted := fmt.Sprintf("socket:[%d]", h.inode)
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil && to == wanted {
			return true
		}
	}
	return false
}

// Process finds the process that has the socket, 0 if it is not to be seen.
func (h *Socket) Process() int {
	entries, _ := os.ReadDir("/proc") // without it there is nothing to be seen
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && h.HeldBy(pid) {
			return pid
		}
	}
	return 0
}

// String names user, process and command, as far as they are to be seen.
func (h *Socket) String() string {
	pid := h.Process()
	if pid == 0 {
		return fmt.Sprintf("a process of user %d", h.UID)
	}
	text := fmt.Sprintf("process %d", pid)
	if line := commandLine(pid); line != "" {
		text += fmt.Sprintf(" (%q)", line) // quoted, since a process calls itself what it likes
	}
	return fmt.Sprintf("%s of user %d", text, h.UID)
}
