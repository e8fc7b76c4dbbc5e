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

// What is read of nftables is read here and not by the library, which leaves out expressions that it does not know (fwd),
// a table's comment, and the link of a chain.

// nftables' requests and answers.
const nftSubsystem = unix.NFNL_SUBSYS_NFTABLES << 8

// chain is one that was read.
type chain struct {
	family      byte
	table, name string
	hook        *uint32
	priority    int32
	device      string
	policy      uint32
}

// rule is one that was read.
type rule struct {
	family       byte
	table, chain string
	comment      string
	expressions  []byte
}

// Read reads our table of a family, or those of several; nil when there is none.
func (n *NFT) Read(family *plan.FilterFamily, table string) (_ *plan.Filter, err error) {
	if err := n.Open(); err != nil {
		return nil, err
	}
	defer n.closeAfter(&err)
	if n.stillKnown(family, table) {
		return n.known, nil
	}
	f := &plan.Filter{Table: table, Family: family}
	var chains []chain
	var rules []rule
	found := false
	for i, number := range family.Families() {
		comment, there, err := n.table(number, table)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			f.Comment = comment
		}
		if !there {
			continue // so that the text differs, unless none is there
		}
		found = true
		some, err := n.chains(number, table)
		if err != nil {
			return nil, fmt.Errorf("list the chains of %s: %w", f.Name(), err)
		}
		chains = append(chains, some...)
		more, err := n.rules(number, table)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s: %w", f.Name(), err)
		}
		rules = append(rules, more...)
	}
	if !found {
		return nil, nil
	}
	return f, n.fill(f, chains, rules)
}

// Check only checks that the kernel has what our tables require, and that this process may see them.
func (n *NFT) Check(family *plan.FilterFamily, table string) (err error) {
	if err := n.Open(); err != nil {
		return err
	}
	defer n.closeAfter(&err)
	for _, number := range family.Families() {
		if _, _, err := n.table(number, table); err != nil {
			return err
		}
	}
	return nil
}

// stillKnown reports whether what our own transaction put in place is what is there.
func (n *NFT) stillKnown(family *plan.FilterFamily, table string) bool {
	if n.known == nil || n.known.Table != table || n.known.Family.Number != family.Number {
		return false
	}
	for name, index := range n.indexes {
		if now, err := n.Links.IndexOf(name); err != nil || now != index {
			return false
		}
	}
	return n.generation == n.Now()
}

// fill writes the rules as text, chain by chain. Those of a chain that hangs elsewhere than it should are left out.
func (n *NFT) fill(f *plan.Filter, chains []chain, rules []rule) error {
	table := f.Table
	names := make(map[int]string)
	nameOf := func(index int) string {
		if _, asked := names[index]; !asked {
			names[index] = n.nameOf(index)
		}
		return names[index]
	}
	for _, want := range f.Family.Chains {
		number := f.Family.FamilyOf(want.Name)
		i := slices.IndexFunc(chains, func(c chain) bool {
			return c.family == number && c.table == table && c.name == want.Name
		})
		if i < 0 || !chains[i].hangsAs(want) {
			continue
		}
		for _, r := range rules {
			if r.family != number || r.table != table || r.chain != want.Name {
				continue
			}
			exprs, err := decodeExpressions(number, r.expressions, nameOf)
			if err != nil {
				return err
			}
			hung := want
			hung.Device = chains[i].device
			f.Rules = append(f.Rules, plan.RuleText(hung, r.comment, exprs))
			if plan.IsGuardChain(r.chain) {
				f.Lies += counted(exprs)
			}
		}
	}
	return nil
}

// counted is how many frames a rule has counted.
func counted(exprs []expr.Any) (frames uint64) {
	for _, e := range exprs {
		if c, ok := e.(*expr.Counter); ok {
			frames += c.Packets
		}
	}
	return frames
}

// hangsAs reports whether a chain that was read is what it should be. On which link it is, the text says.
func (c chain) hangsAs(want plan.FilterChain) bool {
	if c.hook == nil || want.Hook == nil {
		return c.hook == want.Hook
	}
	policy := uint32(nftables.ChainPolicyAccept)
	if want.Drop {
		policy = uint32(nftables.ChainPolicyDrop)
	}
	return *c.hook == *want.Hook && c.priority == want.Priority && c.policy == policy
}

// nameOf is the name of a link by its index; "" where there is none.
func (n *NFT) nameOf(index int) string {
	if n.Links == nil {
		return ""
	}
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(index)
	message, err := n.Links.Get(unix.RTM_GETLINK, unix.RTM_NEWLINK, header)
	if err != nil {
		return ""
	}
	l, err := decodeLink(message)
	if err != nil {
		return ""
	}
	return l.Name
}

// table looks for a table of that name.
func (n *NFT) table(family byte, name string) (comment string, there bool, err error) {
	b, err := n.socket.Get(nftSubsystem|unix.NFT_MSG_GETTABLE, nftSubsystem|unix.NFT_MSG_NEWTABLE,
		&nl.Nfgenmsg{NfgenFamily: family}, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(name)))
	switch {
	case errors.Is(err, unix.ENOENT):
		return "", false, nil
	case errors.Is(err, unix.EINVAL): // nobody takes the request (nfnetlink_rcv_msg)
		return "", false, fmt.Errorf("%w: %w", ErrNoFilter, err)
	case err != nil:
		return "", false, fmt.Errorf("look for nftables' table %s: %w", name, filterError(err))
	}
	attrs, err := nftAttributes(b)
	if err != nil {
		return "", false, err
	}
	comment, _ = userdata.GetString(attrs.get(tableUserdata), userdata.TypeComment)
	return comment, true, nil
}

// Table is a table of nftables.
type Table struct {
	Family        byte // NFPROTO_…
	Name, Comment string
}

// Tables are all that there are.
func (n *NFT) Tables() (tables []Table, err error) {
	if err := n.Open(); err != nil {
		return nil, err
	}
	defer n.closeAfter(&err)
	messages, err := n.socket.Dump(nftSubsystem|unix.NFT_MSG_GETTABLE, nftSubsystem|unix.NFT_MSG_NEWTABLE,
		&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC})
	if errors.Is(err, unix.EINVAL) { // nobody takes the request (nfnetlink_rcv_msg)
		return nil, fmt.Errorf("%w: %w", ErrNoFilter, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list nftables' tables: %w", filterError(err))
	}
	for _, m := range messages {
		attrs, err := nftAttributes(m)
		if err != nil {
			return nil, err
		}
		comment, _ := userdata.GetString(attrs.get(tableUserdata), userdata.TypeComment)
		tables = append(tables, Table{m[0], text(attrs.get(unix.NFTA_TABLE_NAME)), comment})
	}
	return tables, nil
}

// chains are those of a table, or, without a name, of all tables of a family, or of all (NFPROTO_UNSPEC).
func (n *NFT) chains(family byte, table string) (chains []chain, err error) {
	messages, err := n.socket.Dump(nftSubsystem|unix.NFT_MSG_GETCHAIN, nftSubsystem|unix.NFT_MSG_NEWCHAIN,
		&nl.Nfgenmsg{NfgenFamily: family})
	if err != nil {
		return nil, filterError(err)
	}
	for _, m := range messages {
		attrs, err := nftAttributes(m)
		if err != nil {
			return nil, err
		}
		c := chain{family: m[0], table: text(attrs.get(unix.NFTA_CHAIN_TABLE)), name: text(attrs.get(unix.NFTA_CHAIN_NAME))}
		if table != "" && c.table != table {
			continue
		}
		c.policy = be32(attrs.get(unix.NFTA_CHAIN_POLICY))
		if nested, hooked := attrs.find(unix.NFTA_CHAIN_HOOK); hooked {
			hook, err := attributes(nested)
			if err != nil {
				return nil, err
			}
			number := be32(hook.get(unix.NFTA_HOOK_HOOKNUM))
			c.hook, c.priority = &number, int32(be32(hook.get(unix.NFTA_HOOK_PRIORITY)))
			c.device = text(hook.get(unix.NFTA_HOOK_DEV))
		}
		chains = append(chains, c)
	}
	return chains, nil
}

// rules are those of a table, or, without a name, of all tables of a family.
func (n *NFT) rules(family byte, table string) (rules []rule, err error) {
	request := []nl.NetlinkRequestData{&nl.Nfgenmsg{NfgenFamily: family}}
	if table != "" {
		request = append(request, nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	}
	messages, err := n.socket.Dump(nftSubsystem|unix.NFT_MSG_GETRULE, nftSubsystem|unix.NFT_MSG_NEWRULE, request...)
	if err != nil {
		return nil, filterError(err)
	}
	for _, m := range messages {
		attrs, err := nftAttributes(m)
		if err != nil {
			return nil, err
		}
		r := rule{
			family: m[0], table: text(attrs.get(unix.NFTA_RULE_TABLE)), chain: text(attrs.get(unix.NFTA_RULE_CHAIN)),
			expressions: attrs.get(unix.NFTA_RULE_EXPRESSIONS),
		}
		r.comment, _ = userdata.GetString(attrs.get(unix.NFTA_RULE_USERDATA), userdata.TypeComment)
		rules = append(rules, r)
	}
	return rules, nil
}

// nftAttributes are what follows the header of nfnetlink, which begins with the family.
func nftAttributes(message []byte) (attributeSet, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return nil, fmt.Errorf("decode an answer of nftables: it has %d bytes", len(message))
	}
	return attributes(message[nl.SizeofNfgenmsg:])
}

func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
