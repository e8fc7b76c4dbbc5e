package network

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// errNoFilter says that the kernel has no nftables for bridges.
var errNoFilter = errors.New("the kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE)")

// nft opens a connection to nftables in the namespace.
func nft(ns *Namespace) (conn *nftables.Conn, err error) {
	err = ns.Do(func() error {
		conn, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open nftables in %s: %w", ns, filterError(err))
	}
	return conn, nil
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

// filter reads our table; nil when there is none.
func readFilter(ns *Namespace, table string) (_ *Filter, err error) {
	conn, err := nft(ns)
	if err != nil {
		return nil, err
	}
	defer conn.CloseLasting() //nolint:errcheck // only read
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
		if c.Table.Name == t.Name && c.Hooknum != nil {
			hooked[c.Name] = c
		}
	}
	for _, name := range filterChains {
		c := hooked[name]
		if c == nil {
			continue // so that the text differs
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

var filterHooks = map[string]*nftables.ChainHook{
	chainForward: nftables.ChainHookForward,
	chainInput:   nftables.ChainHookInput,
	chainOutput:  nftables.ChainHookOutput,
}

// setFilter puts the table in place, whatever is there, in one transaction: at no moment is there none.
func setFilter(ns *Namespace, f *Filter) error {
	conn, err := nft(ns)
	if err != nil {
		return err
	}
	defer conn.CloseLasting() //nolint:errcheck // the transaction is done by then
	t := &nftables.Table{Family: nftables.TableFamilyBridge, Name: f.Table}
	conn.AddTable(t) // so that there is one to delete
	conn.DelTable(t)
	conn.AddTable(t)
	chains := make(map[string]*nftables.Chain)
	for _, name := range filterChains {
		chains[name] = conn.AddChain(&nftables.Chain{
			Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: filterHooks[name], Priority: nftables.ChainPriorityFilter,
		})
	}
	for _, r := range f.rules {
		conn.AddRule(&nftables.Rule{
			Table: t, Chain: chains[r.chain], Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment),
		})
	}
	return filterError(conn.Flush())
}

func deleteFilter(ns *Namespace, table string) error {
	conn, err := nft(ns)
	if err != nil {
		return err
	}
	defer conn.CloseLasting() //nolint:errcheck // the transaction is done by then
	conn.DelTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: table})
	return gone(conn.Flush())
}
