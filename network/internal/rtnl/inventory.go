package rtnl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// Inventory lists the chains of nftables that hang on a hook, in words, and the bridge tables and ours, rule by rule.
func (n *NFT) Inventory() (found []string, filters []plan.Filter, err error) {
	if err := n.Open(); err != nil {
		return nil, nil, err
	}
	defer n.closeAfter(&err)
	chains, err := n.chains(unix.NFPROTO_UNSPEC, "")
	if err != nil {
		return nil, nil, err
	}
	rules, err := n.rules(unix.NFPROTO_UNSPEC, "")
	if err != nil {
		return nil, nil, err
	}
	for _, c := range chains {
		if c.hook == nil {
			continue
		}
		count := 0
		for _, r := range rules {
			if r.family == c.family && r.table == c.table && r.chain == c.name {
				count++
			}
		}
		where := c.name
		if c.device != "" {
			where += " of " + c.device
		}
		found = append(found, fmt.Sprintf("%s %s %s hook %d: %d rules", familyName(c.family), c.table, where, *c.hook, count))
		family := filterFamilyOf(c, chains)
		listed := func(f plan.Filter) bool { return f.Table == c.table && f.Family.Number == family.Number }
		if family == nil || slices.ContainsFunc(filters, listed) {
			continue
		}
		f := plan.Filter{Table: c.table, Family: family}
		if f.Comment, _, err = n.table(family.Number, c.table); err != nil {
			return found, filters, err
		}
		if err := n.fill(&f, chains, rules); err != nil {
			return found, filters, err
		}
		filters = append(filters, f)
	}
	return found, filters, nil
}

// filterFamilyOf is where a table belongs that is read whole: those of bridges, and ours of another family.
func filterFamilyOf(c chain, all []chain) *plan.FilterFamily {
	redirects := func(o chain) bool { return o.family == unix.NFPROTO_NETDEV && o.table == c.table }
	switch {
	case c.family == unix.NFPROTO_BRIDGE:
		return plan.BridgeFilter
	case !strings.HasPrefix(c.table, plan.FilterTable("")):
		return nil
	case slices.ContainsFunc(all, redirects):
		return plan.RedirectFamily
	case plan.IsStackFilter(c.family, c.table):
		return plan.StackFilter
	}
	return nil
}

func familyName(number byte) string {
	if name, known := familyNames[number]; known {
		return name
	}
	return fmt.Sprint("family ", number)
}

var familyNames = map[byte]string{
	unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet",
	unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}
