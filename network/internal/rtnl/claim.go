package rtnl

import (
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/netfilter/nfnetlink_log.h.
const (
	nfulnlMsgConfig  = 1
	nfulaCfgCmd      = 1
	nfulnlCfgCmdBind = 1
)

// ErrNoClaims says that the kernel has no packet log to claim a group of.
var ErrNoClaims = errors.New("the kernel has no nfnetlink_log (CONFIG_NETFILTER_NETLINK_LOG)")

// Claim binds a socket of netfilter to a group of the namespace's packet log, to which one socket at a time can be bound,
// and reports whether it was free.
func (r *Conn) Claim(group uint16) (bool, error) {
	err := r.Do(unix.NFNL_SUBSYS_ULOG<<8|nfulnlMsgConfig, 0,
		&nl.Nfgenmsg{ResId: nl.Swap16(group)}, nl.NewRtAttr(nfulaCfgCmd, []byte{nfulnlCfgCmdBind}))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EINVAL): // nobody takes the request (nfnetlink_rcv_msg)
		return false, ErrNoClaims
	case errors.Is(err, unix.EBUSY):
		// A socket with this one's port id holds it (nfulnl_recv_config): one that is being closed. Its port id is free
		// (netlink_remove) before its group is (nfulnl_rcv_nl_event).
		return false, nil
	case !errors.Is(err, unix.EPERM):
		return false, err
	}
	// EPERM says that another socket is bound to it (nfulnl_recv_config), or that this one may ask for nothing at all. Then
	// it may not ask for the ruleset's generation either.
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	_, err = r.Get(subsystem|unix.NFT_MSG_GETGEN, subsystem|unix.NFT_MSG_NEWGEN, &nl.Nfgenmsg{})
	if errors.Is(err, unix.EPERM) {
		return false, err
	}
	return false, nil
}
