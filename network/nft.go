package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
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
	ns   *Namespace
	conn *nftables.Conn
	raw  *rtnl // for what the library has no request for

	// known is the filter that our own transaction put in place, as of that generation of the ruleset: to read it back rule
	// by rule takes as long as to read all the rest.
	known      *Filter
	generation uint32
}

func (n *nft) open() (*nftables.Conn, error) {
	if n.conn != nil {
		return n.conn, nil
	}
	err := n.ns.Do(func() (err error) {
		if n.raw, err = newNetlink(unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		if n.conn, err = nftables.New(nftables.AsLasting()); err != nil {
			n.raw.close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open nftables in %s: %w", n.ns, filterError(err))
	}
	return n.conn, nil
}

func (n *nft) close() {
	if n.conn != nil {
		n.conn.CloseLasting() //nolint:errcheck // every request has been answered
		n.raw.close()
		n.conn, n.raw, n.known = nil, nil, nil
	}
}

// now is the number of the ruleset's generation, which every transaction of whomever raises by one; 0 where the kernel
// does not say.
func (n *nft) now() uint32 {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	b, err := n.raw.get(subsystem|unix.NFT_MSG_GETGEN, subsystem|unix.NFT_MSG_NEWGEN, &nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	if err != nil || len(b) < nl.SizeofNfgenmsg {
		return 0
	}
	attrs, err := attributes(b[nl.SizeofNfgenmsg:])
	if err != nil || len(attrs[unix.NFTA_GEN_ID]) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(attrs[unix.NFTA_GEN_ID])
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

// read reads our table; nil when there is none.
func (n *nft) read(table string) (_ *Filter, err error) {
	conn, err := n.open()
	if err != nil {
		return nil, err
	}
	defer n.closeAfter(&err)
	if n.known != nil && n.known.Table == table && n.generation == n.now() {
		return n.known, nil
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return nil, fmt.Errorf("list nftables' tables: %w", filterError(err))
	}
	for _, t := range tables {
		if t.Name == table {
			return readRules(conn, t)
		}
	}
	return nil, nil
}

func readRules(conn *nftables.Conn, t *nftables.Table) (*Filter, error) {
	f := &Filter{Table: t.Name}
	chains, err := conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list the chains of %s: %w", t.Name, err)
	}
	hooked := make(map[string]*nftables.Chain)
	for _, c := range chains {
		if c.Table.Name == t.Name && c.Hooknum != nil && c.Priority != nil && *c.Priority == *filterPriority {
			hooked[c.Name] = c
		}
	}
	for _, name := range filterChains {
		c := hooked[name]
		if c == nil {
			continue // or another priority: so that the text differs
		}
		rules, err := conn.GetRules(t, c)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s %s: %w", t.Name, name, err)
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			f.Rules = append(f.Rules, ruleText(name, comment, r.Exprs))
		}
	}
	return f, nil
}

// filterPriority is NF_BR_PRI_FILTER_BRIDGED (include/uapi/linux/netfilter_bridge.h), which nft(8) calls filter in this
// family. It must be below that of br_netfilter, which is 0: where that comes first, it takes IP packets to the hooks of
// its own family and goes on behind 0 (br_nf_hook_thresh), so that a chain of priority 0 never sees them. Which of two
// of the same priority comes first depends on whether there was a bridge before there was the table.
var filterPriority = nftables.ChainPriorityRef(-200)

var filterHooks = map[string]*nftables.ChainHook{
	chainForward: nftables.ChainHookForward,
	chainInput:   nftables.ChainHookInput,
	chainOutput:  nftables.ChainHookOutput,
}

// put puts the table in place in one transaction, so that at no moment is there none. A table that is there is replaced
// on request only: the kernel frees what it removes after a grace period, which takes longer than all the rest.
func (n *nft) put(f *Filter, replace bool) (err error) {
	conn, err := n.open()
	if err != nil {
		return err
	}
	defer n.closeAfter(&err)
	n.known = nil
	before := n.now()
	t := &nftables.Table{Family: nftables.TableFamilyBridge, Name: f.Table}
	if replace {
		conn.AddTable(t) // so that there is one to delete
		conn.DelTable(t)
	}
	conn.AddTable(t)
	chains := make(map[string]*nftables.Chain)
	for _, name := range filterChains {
		chains[name] = conn.AddChain(&nftables.Chain{
			Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: filterHooks[name], Priority: filterPriority,
		})
	}
	for _, r := range f.rules {
		conn.AddRule(&nftables.Rule{
			Table: t, Chain: chains[r.chain], Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment),
		})
	}
	if err := conn.Flush(); err != nil {
		return filterError(err)
	}
	if now := n.now(); now == before+1 && before != 0 { // ours, and nobody else's
		n.known, n.generation = f, now
	}
	return nil
}

func (n *nft) remove(table string) (err error) {
	conn, err := n.open()
	if err != nil {
		return err
	}
	defer n.closeAfter(&err)
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: table})
	return gone(filterError(conn.Flush()))
}
