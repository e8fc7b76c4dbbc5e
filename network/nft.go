package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errNoFilter says that the kernel has no nftables for bridges.
var errNoFilter = errors.New("the kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE)")

// nft is one connection to nftables in one namespace, opened when it is first used. To close one takes as long as the
// kernel needs to free what was removed by it (nft_rcv_nl_event waits for a grace period), so it is kept until the work
// on the namespace is done. Not for use by several goroutines.
type nft struct {
	ns     namespace
	socket *rtnl
	// library reads rules, which is seldom needed: opening it costs as much as all that a first prepare asks of nftables.
	library *nftables.Conn
	// before is that of rtnl.
	before func()

	// known is the filter that our own transaction put in place, as of that generation of the ruleset: to read it back rule
	// by rule takes as long as to read all the rest.
	known      *Filter
	generation uint32
}

func (n *nft) open() error {
	if n.socket != nil {
		return nil
	}
	err := n.ns.Do(func() (err error) {
		n.socket, err = newNetlink(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", n.ns, filterError(err))
	}
	n.socket.before = n.before
	return nil
}

func (n *nft) openLibrary() error {
	if n.library != nil {
		return nil
	}
	err := n.ns.Do(func() (err error) {
		n.library, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", n.ns, err)
	}
	return nil
}

func (n *nft) close() {
	if n.library != nil {
		n.library.CloseLasting() //nolint:errcheck // every request has been answered
	}
	if n.socket != nil {
		n.socket.close()
	}
	n.library, n.socket, n.known = nil, nil, nil
}

// now is the number of the ruleset's generation, which every transaction of whomever raises by one; 0 where the kernel
// does not say.
func (n *nft) now() uint32 {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	b, err := n.socket.get(subsystem|unix.NFT_MSG_GETGEN, subsystem|unix.NFT_MSG_NEWGEN, &nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
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
func (n *nft) closeAfter(err *error) {
	if *err != nil {
		n.close()
	}
}

// filterError recognizes the ways in which a kernel says that it does not have this.
func filterError(err error) error {
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w: %w", errNoFilter, err)
		}
	}
	return err
}

// read reads our table of a family; nil when there is none.
func (n *nft) read(family *filterFamily, table string) (_ *Filter, err error) {
	if err := n.open(); err != nil {
		return nil, err
	}
	defer n.closeAfter(&err)
	if n.known != nil && n.known.family == family && n.known.Table == table && n.generation == n.now() {
		return n.known, nil
	}
	there, err := n.has(family, table)
	if !there || err != nil {
		return nil, err
	}
	if err := n.openLibrary(); err != nil {
		return nil, err
	}
	return readRules(n.library, family, table)
}

// has reports whether there is a table of that name.
func (n *nft) has(family *filterFamily, table string) (bool, error) {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	_, err := n.socket.get(subsystem|unix.NFT_MSG_GETTABLE, subsystem|unix.NFT_MSG_NEWTABLE,
		&nl.Nfgenmsg{NfgenFamily: family.number}, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table)))
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.EINVAL): // nobody takes the request (nfnetlink_rcv_msg)
		return false, fmt.Errorf("%w: %w", errNoFilter, err)
	case err != nil:
		return false, fmt.Errorf("look for nftables' table %s: %w", table, filterError(err))
	}
	return true, nil
}

func readRules(conn *nftables.Conn, family *filterFamily, table string) (*Filter, error) {
	f := &Filter{Table: table, family: family}
	t := &nftables.Table{Family: nftables.TableFamily(family.number), Name: table}
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list the chains of %s: %w", f.name(), err)
	}
	there := make(map[string]*nftables.Chain)
	for _, c := range chains {
		if c.Table.Name == table {
			there[c.Name] = c
		}
	}
	for _, want := range family.chains {
		c := there[want.name]
		if c == nil || !hangsAs(want, c) {
			continue // so that the text differs
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s %s: %w", f.name(), c.Name, err)
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			f.Rules = append(f.Rules, ruleText(c.Name, comment, r.Exprs))
		}
	}
	return f, nil
}

// hangsAs reports whether a chain that was read hangs where c should.
func hangsAs(c filterChain, read *nftables.Chain) bool {
	same := func(a, b *uint32) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	return same(c.hook, (*uint32)(read.Hooknum)) && (c.hook == nil || read.Priority != nil && int32(*read.Priority) == c.priority)
}

// put puts the table in place in one transaction, so that at no moment is there none. A table that is there is replaced
// on request only: the kernel frees what it removes after a grace period, which takes longer than all the rest.
func (n *nft) put(f *Filter, replace bool) (err error) {
	if err := n.open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	n.known = nil
	before := n.now()
	t, err := transactionOf(f, replace)
	if err != nil {
		return err
	}
	if err := t.commit(n.socket); err != nil {
		return filterError(err)
	}
	if now := n.now(); now == before+1 && before != 0 { // ours, and nobody else's
		n.known, n.generation = f, now
	}
	return nil
}

// transactionOf makes the table, its chains and its rules.
func transactionOf(f *Filter, replace bool) (*transaction, error) {
	t := transaction{family: f.family.number}
	table := nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(f.Table))
	t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table) // also to have one to delete
	if replace {
		t.add(unix.NFT_MSG_DELTABLE, 0, table)
		t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table)
	}
	for _, c := range f.family.chains {
		if !slices.ContainsFunc(f.rules, func(r filterRule) bool { return r.chain == c.name }) {
			continue // frames would be led to it for nothing
		}
		chain := []*nl.RtAttr{
			nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(f.Table)),
			nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(c.name)),
		}
		if c.hook != nil {
			hook := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
			hook.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, nl.BEUint32Attr(*c.hook))
			hook.AddRtAttr(unix.NFTA_HOOK_PRIORITY, nl.BEUint32Attr(uint32(c.priority)))
			chain = append(chain, nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated(string(nftables.ChainTypeFilter))), hook)
		}
		t.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, chain...)
	}
	for _, r := range f.rules {
		expressions := nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, nil)
		for _, e := range r.exprs {
			data, err := expr.Marshal(f.family.number, e)
			if err != nil {
				return nil, fmt.Errorf("encode the rule %q: %w", r.comment, err)
			}
			expressions.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
		t.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
			nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(f.Table)),
			nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(r.chain)),
			expressions,
			nl.NewRtAttr(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.comment)))
	}
	return &t, nil
}

func (n *nft) remove(family *filterFamily, table string) (err error) {
	if err := n.open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	t := transaction{family: family.number}
	t.add(unix.NFT_MSG_DELTABLE, 0, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table)))
	// A kernel may have nfnetlink, for another of its users, and no nftables (nfnetlink_rcv_batch: EOPNOTSUPP).
	return gone(filterError(t.commit(n.socket)))
}
