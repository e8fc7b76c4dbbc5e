package rtnl

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rules lists the rules of IPv4 and then IPv6, each by priority.
func (r *Conn) Rules() ([]plan.Rule, error) {
	messages, err := r.Dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	families := map[uint8]string{unix.AF_INET: "ipv4", unix.AF_INET6: "ipv6"}
	var all []plan.Rule
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg || families[m[0]] == "" {
			continue // multicast routing
		}
		attrs, err := attributes(m[unix.SizeofRtMsg:])
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		rule := plan.Rule{Family: families[m[0]], Priority: u32(attrs.get(unix.FRA_PRIORITY)), Table: uint32(m[4]), Raw: hex.EncodeToString(m)}
		if t, ok := attrs.find(unix.FRA_TABLE); ok {
			rule.Table = u32(t)
		}
		all = append(all, rule)
	}
	slices.SortStableFunc(all, func(a, b plan.Rule) int {
		if a.Family != b.Family {
			if a.Family < b.Family {
				return -1
			}
			return 1
		}
		return int(a.Priority) - int(b.Priority)
	})
	return all, nil
}
