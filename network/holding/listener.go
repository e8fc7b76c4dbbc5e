package holding

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/podnic/podnic/network/plan"
)

// Listener is a socket of a namespace that waits for what others begin.
type Listener struct {
	Address  netip.Addr
	Port     uint16
	Protocol string // plan.ProtocolTCP or plan.ProtocolUDP
	Holder   Socket
}

// Listeners are those of a namespace, as /proc/net has them.
func Listeners(n namespace) (all []Listener, err error) {
	err = n.Do(func() error {
		for _, table := range []struct{ file, protocol, state string }{
			// The states are TCP_LISTEN and, of UDP sockets that are not connected, TCP_CLOSE (include/net/tcp_states.h).
			{"tcp", plan.ProtocolTCP, "0A"}, {"tcp6", plan.ProtocolTCP, "0A"}, {"udp", plan.ProtocolUDP, "07"}, {"udp6", plan.ProtocolUDP, "07"},
		} {
			b, err := os.ReadFile("/proc/thread-self/net/" + table.file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				if l, ok := listener(strings.Fields(line), table.state); ok {
					l.Protocol = table.protocol
					all = append(all, l)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the sockets of %s: %w", n, err)
	}
	return all, nil
}

// listener reads a line: number, local and remote address, state, queues, timer, retransmits, user, timeout, inode.
func listener(f []string, state string) (l Listener, ok bool) {
	if len(f) < 10 || f[3] != state {
		return l, false
	}
	address, port, _ := strings.Cut(f[1], ":")
	var b []byte
	var err error
	for word := range slices.Chunk([]byte(address), 8) { // in the machine's byte order
		n, failed := strconv.ParseUint(string(word), 16, 32)
		b, err = binary.NativeEndian.AppendUint32(b, uint32(n)), errors.Join(err, failed)
	}
	number, err2 := strconv.ParseUint(port, 16, 16)
	uid, err3 := strconv.ParseUint(f[7], 10, 32)
	inode, err4 := strconv.ParseUint(f[9], 10, 32)
	if errors.Join(err, err2, err3, err4) != nil {
		return l, false
	}
	l.Address, ok = netip.AddrFromSlice(b)
	l.Address = l.Address.Unmap()
	l.Port, l.Holder = uint16(number), Socket{UID: uint32(uid), inode: uint32(inode)}
	return l, ok
}
