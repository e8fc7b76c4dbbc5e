package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Address is where metrics are served. The zero value is nowhere.
type Address struct {
	// Socket is the path of a unix socket; empty for TCP.
	Socket string
	// TCP is an address of this host and a port.
	TCP netip.AddrPort
}

// ParseAddress reads unix:PATH or HOST:PORT, where HOST is an address or localhost.
func ParseAddress(text string) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, fmt.Errorf("unix: takes an absolute path, not %q", path)
		}
		return Address{Socket: filepath.Clean(path)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is neither unix:PATH nor HOST:PORT", text)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "::"
	}
	tcp, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil || tcp.Port() == 0 {
		return Address{}, fmt.Errorf("%q is not HOST:PORT with an address for the host and a number for the port", text)
	}
	return Address{TCP: netip.AddrPortFrom(tcp.Addr().Unmap(), tcp.Port())}, nil
}

// IsZero reports whether the address is nowhere.
func (a Address) IsZero() bool { return a == Address{} }

// String is a form that ParseAddress reads.
func (a Address) String() string {
	if a.Socket != "" {
		return "unix:" + a.Socket
	}
	return a.TCP.String()
}

// Listen opens the socket, in the network namespace of the calling thread. A unix socket that a process left which was
// killed is replaced; one that somebody listens on is not, and neither is a file of any other kind. Who may enter its
// directory may connect; one that is not there is made for the owner alone, as the state directory is.
func (a Address) Listen() (net.Listener, error) {
	if a.Socket == "" {
		return net.Listen("tcp", a.TCP.String())
	}
	if err := os.MkdirAll(filepath.Dir(a.Socket), 0o700); err != nil {
		return nil, err
	}
	if err := removeStale(a.Socket); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", a.Socket)
	if err != nil {
		return nil, err
	}
	if err := open(a.Socket); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// open lets everybody connect to a socket of this process. A process that can write its directory may have put a link in its place
// by now, to a file that is to stay what it is.
func open(path string) error {
	const oPath = 0x200000 // O_PATH (include/uapi/asm-generic/fcntl.h)
	fd, err := syscall.Open(path, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK || int(stat.Uid) != os.Geteuid() || stat.Nlink != 1 {
		return fmt.Errorf("%s has been replaced", path)
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o666) // what was opened, and not what has its name
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("somebody listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
