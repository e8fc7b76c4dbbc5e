package plan

import (
	"fmt"
	"slices"
)

// Comparable renders what of a snapshot is compared, in an order that does not depend on how it came to be.
func Comparable(s *Snapshot) []string {
	var lines []string
	down := false
	for _, l := range s.Links {
		line := fmt.Sprintf("link %s %s %s mtu %d up %v arp %v group %x mode %q master %s learning %v", l.Role, l.Name, l.MAC, l.MTU, l.Up, !l.NoARP, l.Group, l.AddrGenMode, l.Master, l.Learning)
		if l.Role == NIC {
			line += fmt.Sprintf(" %v %v %v %q %v %d", l.Promisc, l.AllMulti, l.LRO, l.Alias, l.AltNames, l.TxQLen)
			down = !l.Up
		}
		lines = append(lines, line)
	}
	for _, r := range s.Routes {
		lines = append(lines, fmt.Sprintf("route %s %+v", r, r))
	}
	for _, n := range s.Neighbours {
		lines = append(lines, fmt.Sprintf("neighbour %s %+v", n, n))
	}
	for _, q := range s.Qdiscs {
		lines = append(lines, fmt.Sprintf("tc %s %s", q.Link, q.Kind))
		for _, f := range q.Filters {
			lines = append(lines, fmt.Sprintf("tc %s %s %s", q.Link, q.Kind, f))
		}
	}
	slices.Sort(lines)
	for _, role := range []Role{NIC, Bridge, Tap, Placeholder} {
		for _, family := range []bool{true, false} {
			// A link that is down may or may not keep its IPv6 addresses (keep_addr_on_down), and the model has them kept.
			if role == NIC && down && !family {
				continue
			}
			for _, a := range s.AddressesOf(role) {
				if a.Is4() == family {
					lines = append(lines, fmt.Sprintf("address %s %s %+v", role, a, a))
				}
			}
		}
	}
	if s.Filter != nil {
		lines = append(lines, s.Filter.Rules...)
	}
	return lines
}
