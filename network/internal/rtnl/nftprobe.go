package rtnl

import (
	"errors"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What tests hide of the kernel, by name.
const (
	HideForward  = "fwd"
	HideNFTables = "nftables"
)

// hides is the error of a transaction of which the kernel shall lack something.
func (n *NFT) hides(t *transaction) error {
	for _, r := range t.requests {
		if errors.Is(r.lacking, ErrNoForward) && slices.Contains(n.Hidden, HideForward) {
			return ErrNoForward
		}
	}
	return nil
}

// ProbeForward asks for a rule that forwards, in a transaction that cannot succeed, since it also deletes a chain
// that is not there. It is nil where the kernel could, and [ErrNoForward] or [ErrNoFilter] where it could not. It
// takes a grace period (__nf_tables_abort).
func (n *NFT) ProbeForward() (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	var t transaction
	table := nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated("podnic-probe"))
	t.add(unix.NFPROTO_NETDEV, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table)
	chain := func(name string) []*nl.RtAttr {
		return []*nl.RtAttr{
			nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated("podnic-probe")),
			nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(name)),
		}
	}
	t.add(unix.NFPROTO_NETDEV, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, chain("probe")...)
	loopback := func(string) (int, error) { return 1, nil } // LOOPBACK_IFINDEX, include/linux/netdevice.h
	forward, err := encodeExpressions(unix.NFPROTO_NETDEV, []expr.Any{&plan.Forward{}}, loopback)
	if err != nil {
		return err
	}
	t.add(unix.NFPROTO_NETDEV, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
		nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated("podnic-probe")),
		nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated("probe")), forward).lacking = ErrNoForward
	t.add(unix.NFPROTO_NETDEV, unix.NFT_MSG_DELCHAIN, 0, chain("missing")...)
	if err := n.hides(&t); err != nil {
		return err
	}
	err = t.commit(n.socket)
	switch {
	case err == nil:
		return errors.New("the kernel deleted a chain that is not there")
	case errors.Is(err, ErrNoForward) || !errors.Is(err, unix.ENOENT):
		return filterError(err)
	}
	return nil
}
