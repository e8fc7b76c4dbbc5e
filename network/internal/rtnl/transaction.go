package rtnl

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// transaction is a batch of changes to nftables, which the kernel makes all at once or not at all.
//
// The library could send it too. It asks for an acknowledgement and an echo of every rule, and reads each of these
// twice, the first time to learn its length: 6 % of the CPU time of the command prepare (ADR 12).
type transaction struct{ requests []*change }

// change is one request of a transaction.
type change struct {
	*nl.NetlinkRequest
	lacking error // what a kernel lacks that does not know what this is; nil: nothing in particular
}

func (t *transaction) add(family byte, kind, flags int, data ...*nl.RtAttr) *change {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: family})
	for _, d := range data {
		r.AddData(d)
	}
	c := &change{NetlinkRequest: r}
	t.requests = append(t.requests, c)
	return c
}

// commit sends the transaction and waits until it is done. The last request alone asks for an acknowledgement: of the
// others the kernel tells only what it refuses (nfnetlink_rcv_batch), and in their order.
func (t *transaction) commit(r *Conn) error {
	r.Forget()
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
				return t.refused(int(m.Header.Seq-first), kernelError(m))
			}
		}
	}
}

// refused says what the kernel lacks that does not know what a request asks for. The number is that of framed.
func (t *transaction) refused(number int, err error) error {
	if number < 1 || number > len(t.requests) {
		return err
	}
	for _, missing := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if lacking := t.requests[number-1].lacking; lacking != nil && errors.Is(err, missing) {
			return fmt.Errorf("%w: %w", lacking, err)
		}
	}
	return err
}

// framed are the requests between the two that make a transaction of them.
func (t *transaction) framed() []*nl.NetlinkRequest {
	frame := func(kind int) *nl.NetlinkRequest {
		r := nl.NewNetlinkRequest(kind, 0)
		r.AddData(&nl.Nfgenmsg{ResId: nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)})
		return r
	}
	all := []*nl.NetlinkRequest{frame(unix.NFNL_MSG_BATCH_BEGIN)}
	for _, c := range t.requests {
		all = append(all, c.NetlinkRequest)
	}
	return append(all, frame(unix.NFNL_MSG_BATCH_END))
}
