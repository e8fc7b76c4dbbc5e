package rtnl

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/podnic/podnic/network/plan"
)

// Survey lists the chains of nftables that hang on a hook, in words, and the bridge tables and ours, rule by rule.
func (n *NFT) Survey() (chains []string, filters []plan.Filter, err error) {
	if err := n.openLibrary(); err != nil {
		return nil, nil, err
	}
	conn := n.library
	all, err := conn.ListChains()
	if err != nil {
		return chains, filters, err
	}
	for _, c := range all {
		if c.Hooknum == nil {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return chains, filters, err
		}
		chains = append(chains, fmt.Sprintf("%s %s %s hook %d: %d rules", familyName(c.Table.Family), c.Table.Name, c.Name, *c.Hooknum, len(rules)))
		family := filterFamilyOf(c.Table)
		if family != nil && !slices.ContainsFunc(filters, func(f plan.Filter) bool { return f.Table == c.Table.Name && f.Family == family }) {
			f, err := readRules(conn, family, c.Table.Name)
			if err != nil {
				return chains, filters, err
			}
			filters = append(filters, *f)
		}
	}
	return chains, filters, nil
}

// filterFamilyOf is where a table belongs that is read whole: those of bridges, and ours of another family.
func filterFamilyOf(t *nftables.Table) *plan.FilterFamily {
	switch {
	case t.Family == nftables.TableFamilyBridge:
		return plan.BridgeFilter
	case plan.IsStackFilter(byte(t.Family), t.Name):
		return plan.StackFilter
	}
	return nil
}

func familyName(f nftables.TableFamily) string {
	if name, known := familyNames[f]; known {
		return name
	}
	return fmt.Sprint("family ", uint8(f))
}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyARP: "arp", nftables.TableFamilyBridge: "bridge", nftables.TableFamilyNetdev: "netdev",
}
