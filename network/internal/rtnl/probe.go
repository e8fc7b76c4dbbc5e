package rtnl

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What follows asks whether the kernel would do something without having it done.

// ProbeKind asks for a link of a kind with a multicast address. No kernel makes it: one that knows the kind says
// EADDRNOTAVAIL, another EOPNOTSUPP.
func (r *Conn) ProbeKind(kind string) error {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(kind))
	return r.Do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("podnic-probe")),
		nl.NewRtAttr(unix.IFLA_ADDRESS, []byte{1, 0, 0, 0, 0, 1}), info)
}

// ProbeTable asks for a table of a family (NFPROTO_…) in the calling thread's namespace, in a transaction that cannot
// succeed, since it also deletes a chain that is not there. A kernel that knows the family says ENOENT, another
// [ErrNoFilter].
func ProbeTable(family byte) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return filterError(err)
	}
	defer conn.CloseLasting() //nolint:errcheck // every request has been answered
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamily(family), Name: "podnic-probe"})
	conn.AddChain(&nftables.Chain{
		Name: plan.ChainForward, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	conn.DelChain(&nftables.Chain{Name: "missing", Table: table})
	return filterError(conn.Flush())
}

// PacketChains lists the chains of nftables in the calling thread's namespace that IP packets meet and that have rules or a
// policy other than accept, but for ours. With an error it returns what it had found by then.
func PacketChains() (found []string, err error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return found, filterError(err)
	}
	defer conn.CloseLasting() //nolint:errcheck // every request has been answered
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet} {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			return found, filterError(err)
		}
		for _, chain := range chains {
			if chain.Hooknum == nil || plan.IsStackFilter(byte(chain.Table.Family), chain.Table.Name) { // ours lets the bridge's frames alone
				continue
			}
			rules, err := conn.GetRules(chain.Table, chain)
			if err != nil {
				return found, err
			}
			if drops := chain.Policy != nil && *chain.Policy != nftables.ChainPolicyAccept; len(rules) > 0 || drops {
				found = append(found, fmt.Sprintf("%s %s %s (rules: %d)", familyName(byte(family)), chain.Table.Name, chain.Name, len(rules)))
			}
		}
	}
	return found, nil
}
