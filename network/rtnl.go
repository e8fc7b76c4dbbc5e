package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtnl is one rtnetlink socket in one namespace, used for every request: opening a socket for each costs more than the
// requests themselves. Not for use by several goroutines.
type rtnl struct {
	sockets map[int]*nl.SocketHandle
	// before, if set, is called before each request that changes something. Tests die in it.
	before func()
}

func newRTNL(ns *Namespace) (*rtnl, error) {
	var s *nl.NetlinkSocket
	err := ns.Do(func() (err error) {
		s, err = nl.Subscribe(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket in %s: %w", ns, err)
	}
	timeout := unix.Timeval{Sec: 10} // the kernel answers at once; only its RTNL lock can keep a request waiting
	if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("bound the wait on a netlink socket: %w", err)
	}
	// Extended acknowledgements carry the kernel's own sentence about what it refused. Kernels have them since 4.12.
	_ = s.SetExtAck(true)
	return &rtnl{sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

func (r *rtnl) close() { r.sockets[unix.NETLINK_ROUTE].Close() }

func (r *rtnl) request(command, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(command, flags)
	req.Sockets = r.sockets
	return req
}

// do sends a request that changes something and waits for the acknowledgement.
func (r *rtnl) do(command, flags int, data ...nl.NetlinkRequestData) error {
	if r.before != nil {
		r.before()
	}
	req := r.request(command, flags|unix.NLM_F_ACK)
	for _, d := range data {
		req.AddData(d)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// dumpAttempts bounds how often a dump is repeated that the kernel says was interrupted by a change. Each takes well
// under a millisecond, and a namespace that changes without pause is not one to rewire.
const dumpAttempts = 20

// dump reads all objects of one kind. A dump that a change interrupted may lack objects (NLM_F_DUMP_INTR), so it is
// repeated: duplicate address detection that ends just after a change of our own is enough to cause it.
func (r *rtnl) dump(command int, answer uint16, data nl.NetlinkRequestData) ([][]byte, error) {
	for range dumpAttempts {
		req := r.request(command, unix.NLM_F_DUMP)
		req.AddData(data)
		messages, err := req.Execute(unix.NETLINK_ROUTE, answer)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return messages, err
		}
	}
	return nil, fmt.Errorf("the namespace changed during each of %d dumps: something reconfigures it without pause", dumpAttempts)
}

// attributes decodes a message's rtnetlink attributes. The flags in the type's upper bits (NLA_F_NESTED,
// NLA_F_NET_BYTEORDER) are cleared.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, fmt.Errorf("decode netlink attributes: %w", err)
	}
	m := make(map[uint16][]byte, len(list))
	for _, a := range list {
		m[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return m, nil
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(b)
}

func u8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func text(b []byte) string { return unix.ByteSliceToString(b) }
