package rtnl

import (
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

// NFT is one connection to nftables in one namespace, opened when it is first used. To close one takes as long as the
// kernel needs to free what was removed by it (nft_rcv_nl_event waits for a grace period), so it is kept until the work
// on the namespace is done. Not for use by several goroutines.
type NFT struct {
	NS     namespace
	socket *Conn
	// library reads rules, which is seldom needed: opening it costs as much as all that a first prepare asks of nftables.
	library *nftables.Conn
	// Before is that of rtnl.
	Before func()

	// known is the filter that our own transaction put in place, as of that generation of the ruleset: to read it back rule
	// by rule takes as long as to read all the rest.
	known      *plan.Filter
	generation uint32
}

// Open opens the socket, unless it is open.
func (n *NFT) Open() error {
	if n.socket != nil {
		return nil
	}
	err := n.NS.Do(func() (err error) {
		n.socket, err = OpenHere(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", n.NS, filterError(err))
	}
	n.socket.Before = n.Before
	return nil
}

// openLibrary opens the library's own connection, unless it is open.
func (n *NFT) openLibrary() error {
	if n.library != nil {
		return nil
	}
	err := n.NS.Do(func() (err error) {
		n.library, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", n.NS, err)
	}
	return nil
}

// Close closes what is open. The connection is opened again when it is next used.
func (n *NFT) Close() {
	if n.library != nil {
		n.library.CloseLasting() //nolint:errcheck // every request has been answered
	}
	if n.socket != nil {
		n.socket.Close()
	}
	n.library, n.socket, n.known = nil, nil, nil
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

// Read reads our table of a family; nil when there is none.
func (n *NFT) Read(family *plan.FilterFamily, table string) (_ *plan.Filter, err error) {
	if err := n.Open(); err != nil {
		return nil, err
	}
	defer n.closeAfter(&err)
	if n.known != nil && n.known.Family == family && n.known.Table == table && n.generation == n.Now() {
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
func (n *NFT) has(family *plan.FilterFamily, table string) (bool, error) {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	_, err := n.socket.Get(subsystem|unix.NFT_MSG_GETTABLE, subsystem|unix.NFT_MSG_NEWTABLE,
		&nl.Nfgenmsg{NfgenFamily: family.Number}, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table)))
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.EINVAL): // nobody takes the request (nfnetlink_rcv_msg)
		return false, fmt.Errorf("%w: %w", ErrNoFilter, err)
	case err != nil:
		return false, fmt.Errorf("look for nftables' table %s: %w", table, filterError(err))
	}
	return true, nil
}

// readRules reads a table that is there. A chain that hangs elsewhere than it should is left out.
func readRules(conn *nftables.Conn, family *plan.FilterFamily, table string) (*plan.Filter, error) {
	f := &plan.Filter{Table: table, Family: family}
	t := &nftables.Table{Family: nftables.TableFamily(family.Number), Name: table}
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list the chains of %s: %w", f.Name(), err)
	}
	there := make(map[string]*nftables.Chain)
	for _, c := range chains {
		if c.Table.Name == table {
			there[c.Name] = c
		}
	}
	for _, want := range family.Chains {
		c := there[want.Name]
		if c == nil || !hangsAs(want, c) {
			continue // so that the text differs
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s %s: %w", f.Name(), c.Name, err)
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			f.Rules = append(f.Rules, plan.RuleText(c.Name, comment, r.Exprs))
		}
	}
	return f, nil
}

// hangsAs reports whether a chain that was read hangs where c should.
func hangsAs(c plan.FilterChain, read *nftables.Chain) bool {
	same := func(a, b *uint32) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	return same(c.Hook, (*uint32)(read.Hooknum)) && (c.Hook == nil || read.Priority != nil && int32(*read.Priority) == c.Priority)
}

// Put puts the table in place in one transaction, so that at no moment is there none. A table that is there is replaced
// on request only: the kernel frees what it removes after a grace period, which takes longer than all the rest.
func (n *NFT) Put(f *plan.Filter, replace bool) (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	n.known = nil
	before := n.Now()
	t, err := transactionOf(f, replace)
	if err != nil {
		return err
	}
	if err := t.commit(n.socket); err != nil {
		return filterError(err)
	}
	if now := n.Now(); now == before+1 && before != 0 { // ours, and nobody else's
		n.known, n.generation = f, now
	}
	return nil
}

// transactionOf makes the table, its chains and its rules.
func transactionOf(f *plan.Filter, replace bool) (*transaction, error) {
	t := transaction{family: f.Family.Number}
	table := nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(f.Table))
	t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table) // also to have one to delete
	if replace {
		t.add(unix.NFT_MSG_DELTABLE, 0, table)
		t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, table)
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
			chain = append(chain, nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated(string(nftables.ChainTypeFilter))), hook)
		}
		t.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, chain...)
	}
	for _, r := range f.Compiled {
		expressions := nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, nil)
		for _, e := range r.Exprs {
			data, err := expr.Marshal(f.Family.Number, e)
			if err != nil {
				return nil, fmt.Errorf("encode the rule %q: %w", r.Comment, err)
			}
			expressions.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
		t.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
			nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(f.Table)),
			nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(r.Chain)),
			expressions,
			nl.NewRtAttr(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Comment)))
	}
	return &t, nil
}

// Remove deletes a table with all that is in it. One that is not there is no error.
func (n *NFT) Remove(family *plan.FilterFamily, table string) (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	t := transaction{family: family.Number}
	t.add(unix.NFT_MSG_DELTABLE, 0, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table)))
	// A kernel may have nfnetlink, for another of its users, and no nftables (nfnetlink_rcv_batch: EOPNOTSUPP).
	return Gone(filterError(t.commit(n.socket)))
}
