package rtnl

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoFilter says that the kernel has no nftables for bridges.
var ErrNoFilter = errors.New("the kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE)")

// What else a kernel may lack, where frames are redirected.
var (
	ErrNoForward = errors.New("the kernel's nftables cannot forward a link's frames to another (CONFIG_NFT_FWD_NETDEV)")
	ErrNoEgress  = errors.New("the kernel's nftables cannot see what a link sends (egress hooks: Linux 5.16, CONFIG_NETFILTER_EGRESS)")
)

// NFT is one connection to nftables in one namespace, opened when it is first used. To close one takes as long as the
// kernel needs to free what was removed by it (nft_rcv_nl_event waits for a grace period), so it is kept until the work
// on the namespace is done. Not for use by several goroutines.
type NFT struct {
	NS     namespace
	socket *Conn
	// Links tells the names and indexes of links that rules forward to. Without it, no such rule can be made.
	Links *Conn
	// Before is that of rtnl.
	Before func()
	// Hidden is what the kernel shall lack, for tests of what is done then: HideForward, HideNFTables.
	Hidden []string
	// Remembers is that of a Conn: chains are listed of all tables at once.
	Remembers bool

	// known is the filter that our own transaction put in place, as of that generation of the ruleset: to read it back rule
	// by rule takes as long as to read all the rest. Its forwarding rules have these indexes.
	known      *plan.Filter
	generation uint32
	indexes    map[string]int
}

// Open opens the socket, unless it is open.
func (n *NFT) Open() error {
	if n.socket != nil {
		return nil
	}
	if slices.Contains(n.Hidden, HideNFTables) {
		return ErrNoFilter
	}
	err := n.NS.Do(func() (err error) {
		n.socket, err = OpenHere(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", n.NS, filterError(err))
	}
	n.socket.Before, n.socket.Remembers = n.Before, n.Remembers
	return nil
}

// Forget has everything read anew.
func (n *NFT) Forget() {
	if n.socket != nil {
		n.socket.Forget()
	}
}

// Close closes what is open. The connection is opened again when it is next used.
func (n *NFT) Close() {
	if n.socket != nil {
		n.socket.Close()
	}
	n.socket, n.known = nil, nil
}

// Now is the number of the ruleset's generation, which every transaction of whomever raises by one; 0 where the kernel
// does not say.
func (n *NFT) Now() uint32 {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	b, err := n.socket.Get(subsystem|unix.NFT_MSG_GETGEN, subsystem|unix.NFT_MSG_NEWGEN, &nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	if err != nil || len(b) < nl.SizeofNfgenmsg {
		return 0
	}
	attrs, err := attributes(b[nl.SizeofNfgenmsg:])
	if err != nil || len(attrs.get(unix.NFTA_GEN_ID)) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(attrs.get(unix.NFTA_GEN_ID))
}

// closeAfter closes the connection after an error, which may leave answers on it that nobody has read.
func (n *NFT) closeAfter(err *error) {
	if *err != nil {
		n.Close()
	}
}

// filterError recognizes the ways in which a kernel says that it does not have this.
func filterError(err error) error {
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w: %w", ErrNoFilter, err)
		}
	}
	return err
}

// Put puts the filter in place in one transaction, so that at no moment is there none, or half of one. A table that is
// there is replaced on request only: the kernel frees what it removes after a grace period, which takes longer than all
// the rest.
func (n *NFT) Put(f *plan.Filter, replace bool) (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	n.known = nil
	before := n.Now()
	indexes := make(map[string]int)
	t, err := transactionOf(f, replace, func(name string) (_ int, err error) {
		if indexes[name] == 0 {
			indexes[name], err = n.indexOf(name)
		}
		return indexes[name], err
	})
	if err != nil {
		return err
	}
	if err := n.hides(t); err != nil {
		return err
	}
	if err := t.commit(n.socket); err != nil {
		return filterError(err)
	}
	if now := n.Now(); now == before+1 && before != 0 { // ours, and nobody else's
		n.known, n.generation, n.indexes = f, now, indexes
	}
	return nil
}

func (n *NFT) indexOf(name string) (int, error) {
	if n.Links == nil {
		return 0, fmt.Errorf("no index known for %s, which rules of nftables forward to", name)
	}
	return n.Links.IndexOf(name)
}

// transactionOf makes the tables, their chains and their rules.
func transactionOf(f *plan.Filter, replace bool, indexOf func(name string) (int, error)) (*transaction, error) {
	var t transaction
	name := nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(f.Table))
	for i, family := range f.Family.Families() {
		table := []*nl.RtAttr{name}
		if i == 0 && f.Comment != "" {
			comment := userdata.AppendString(nil, userdata.TypeComment, f.Comment)
			table = append(table, nl.NewRtAttr(tableUserdata, comment))
		}
		if replace {
			t.add(family, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, name) // to have one to delete
			t.add(family, unix.NFT_MSG_DELTABLE, 0, name)
		}
		has := func(r plan.FilterRule) bool { return f.Family.FamilyOf(r.Chain) == family }
		if i == 0 || slices.ContainsFunc(f.Compiled, has) {
			t.add(family, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table...)
		}
	}
	for _, c := range f.Family.Chains {
		if !slices.ContainsFunc(f.Compiled, func(r plan.FilterRule) bool { return r.Chain == c.Name }) {
			continue // frames would be led to it for nothing
		}
		chain := []*nl.RtAttr{
			nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(f.Table)),
			nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(c.Name)),
		}
		if c.Hook != nil {
			hook := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
			hook.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, nl.BEUint32Attr(*c.Hook))
			hook.AddRtAttr(unix.NFTA_HOOK_PRIORITY, nl.BEUint32Attr(uint32(c.Priority)))
			if c.Device != "" {
				hook.AddRtAttr(unix.NFTA_HOOK_DEV, nl.ZeroTerminated(c.Device))
			}
			chain = append(chain, nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated(string(nftables.ChainTypeFilter))), hook)
		}
		if c.Drop {
			chain = append(chain, nl.NewRtAttr(unix.NFTA_CHAIN_POLICY, nl.BEUint32Attr(uint32(nftables.ChainPolicyDrop))))
		}
		t.add(f.Family.FamilyOf(c.Name), unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, chain...).lacking = lackOfChain(f.Family, c)
	}
	for _, r := range f.Compiled {
		family := f.Family.FamilyOf(r.Chain)
		expressions, err := encodeExpressions(family, r.Exprs, indexOf)
		if err != nil {
			return nil, fmt.Errorf("encode the rule %q: %w", r.Comment, err)
		}
		t.add(family, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
			nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(f.Table)),
			nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(r.Chain)),
			expressions,
			nl.NewRtAttr(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Comment)),
		).lacking = lackOfRule(r)
	}
	return &t, nil
}

// tableUserdata is NFTA_TABLE_USERDATA (include/uapi/linux/netfilter/nf_tables.h).
const tableUserdata = 6

// lackOfChain is what a kernel that refuses a chain lacks.
func lackOfChain(family *plan.FilterFamily, c plan.FilterChain) error {
	switch {
	case family.FamilyOf(c.Name) != unix.NFPROTO_NETDEV || c.Hook == nil:
		return nil
	case *c.Hook == unix.NF_NETDEV_EGRESS:
		return ErrNoEgress
	}
	return ErrNoForward
}

func lackOfRule(r plan.FilterRule) error {
	if slices.ContainsFunc(r.Exprs, func(e expr.Any) bool { _, is := e.(*plan.Forward); return is }) {
		return ErrNoForward
	}
	return nil
}

// NewMark is a mark of packets that nobody else is likely to have.
func NewMark() uint32 {
	for {
		var b [4]byte
		rand.Read(b[:]) //nolint:errcheck // never fails
		if mark := binary.NativeEndian.Uint32(b[:]); mark != 0 {
			return mark
		}
	}
}

// Remove deletes a filter's tables with all that is in them, in one transaction. One that is not there is no error.
func (n *NFT) Remove(family *plan.FilterFamily, table string) (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	var t transaction
	name := nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table))
	families := family.Families()
	for _, number := range families {
		if len(families) > 1 {
			t.add(number, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, name) // one that is missing must not keep the others
		}
		t.add(number, unix.NFT_MSG_DELTABLE, 0, name)
	}
	// A kernel may have nfnetlink, for another of its users, and no nftables (nfnetlink_rcv_batch: EOPNOTSUPP).
	return Gone(filterError(t.commit(n.socket)))
}
