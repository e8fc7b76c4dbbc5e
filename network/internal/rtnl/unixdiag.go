package rtnl

import (
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of sock_diag(7), for unix sockets (include/uapi/linux/unix_diag.h).
const (
	udiagShowName = 0x01
	udiagShowUID  = 0x40 // Linux 5.3
	unixDiagName  = 0
	unixDiagUID   = 7

	sizeofUnixDiagMsg = 16
)

// unixDiagReq is struct unix_diag_req: all sockets of the namespace, whatever their state.
type unixDiagReq struct{ show uint32 }

func (unixDiagReq) Len() int { return 24 }

func (r unixDiagReq) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0] = unix.AF_UNIX
	nl.NativeEndian().PutUint32(b[4:], ^uint32(0)) // udiag_states
	nl.NativeEndian().PutUint32(b[12:], r.show)
	return b
}

// UnixSocket is an abstract one. The name is without the zero byte that makes it abstract; the user is who made it.
type UnixSocket struct {
	Name  string
	UID   uint32
	Inode uint32
}

// DatagramSockets are the abstract datagram sockets of the calling thread's namespace. ENOENT says that the kernel has no
// unix_diag.
func DatagramSockets() (sockets []UnixSocket, err error) {
	conn, err := OpenHere(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	messages, err := conn.Dump(nl.SOCK_DIAG_BY_FAMILY, nl.SOCK_DIAG_BY_FAMILY, unixDiagReq{udiagShowName | udiagShowUID})
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if len(m) < sizeofUnixDiagMsg || m[1] != unix.SOCK_DGRAM {
			continue
		}
		attrs, err := attributes(m[sizeofUnixDiagMsg:])
		if err != nil {
			return nil, err
		}
		name, abstract := strings.CutPrefix(string(attrs.get(unixDiagName)), "\x00")
		uid, known := attrs.find(unixDiagUID)
		if abstract && known {
			sockets = append(sockets, UnixSocket{name, u32(uid), u32(m[4:])})
		}
	}
	return sockets, nil
}
