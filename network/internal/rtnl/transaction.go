package rtnl

import (
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// transaction is a batch of changes to a family of nftables, which the kernel makes all at once or not at all.
//
// The library could send it too. It asks for an acknowledgement and an echo of every rule, and reads each of these
// twice, the first time to learn its length: 6 % of the CPU time of the command prepare (ADR 12).
type transaction struct {
	family   byte
	requests []*nl.NetlinkRequest
}

func (t *transaction) add(kind, flags int, data ...*nl.RtAttr) {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: t.family})
	for _, d := range data {
		r.AddData(d)
	}
	t.requests = append(t.requests, r)
}

// commit sends the transaction and waits until it is done. The last request alone asks for an acknowledgement: of the
// others the kernel tells only what it refuses (nfnetlink_rcv_batch), and in their order.
func (t *transaction) commit(r *Conn) error {
	if r.Before != nil {
		r.Before()
	}
	t.requests[len(t.requests)-1].Flags |= unix.NLM_F_ACK
	first := r.seq + 1
	var batch []byte
	for _, request := range t.framed() {
		r.seq++
		request.Seq = r.seq
		batch = append(batch, request.Serialize()...)
	}
	if err := IgnoringEINTR(func() error {
		return unix.Sendto(r.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return err
	}
	for {
		b, err := r.receive()
		if err != nil {
			return err
		}
		received, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return fmt.Errorf("decode netlink messages: %w", err)
		}
		for _, m := range received {
			if m.Header.Type == unix.NLMSG_ERROR && m.Header.Seq >= first {
				return kernelError(m)
			}
		}
	}
}

// framed are the requests between the two that make a transaction of them.
func (t *transaction) framed() []*nl.NetlinkRequest {
	frame := func(kind int) *nl.NetlinkRequest {
		r := nl.NewNetlinkRequest(kind, 0)
		r.AddData(&nl.Nfgenmsg{ResId: nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)})
		return r
	}
	all := append([]*nl.NetlinkRequest{frame(unix.NFNL_MSG_BATCH_BEGIN)}, t.requests...)
	return append(all, frame(unix.NFNL_MSG_BATCH_END))
}
