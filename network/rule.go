package network

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rule is a policy routing rule. Rules belong to the namespace and not to a link: a link that goes leaves them where they
// are (fib_rules_event only detaches them). They are recorded for what they say of the pod, and never changed.
type Rule struct {
	Family   string `json:"family"` // ipv4 or ipv6
	Priority uint32 `json:"priority"`
	Table    uint32 `json:"table"`
	// Raw is the whole rule as the kernel told it, so that two rules can be compared whatever they match on.
	Raw string `json:"raw"`
}

func (r *rtnl) rules() ([]Rule, error) {
	messages, err := r.dump(unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	families := map[uint8]string{unix.AF_INET: "ipv4", unix.AF_INET6: "ipv6"}
	var all []Rule
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg || families[m[0]] == "" {
			continue // multicast routing
		}
		attrs, err := attributes(m[unix.SizeofRtMsg:])
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		rule := Rule{Family: families[m[0]], Priority: u32(attrs.get(unix.FRA_PRIORITY)), Table: uint32(m[4]), Raw: hex.EncodeToString(m)}
		if t, ok := attrs.find(unix.FRA_TABLE); ok {
			rule.Table = u32(t)
		}
		all = append(all, rule)
	}
	slices.SortStableFunc(all, func(a, b Rule) int {
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

// blocks reports whether the rule says that there is no way (FR_ACT_BLACKHOLE, FR_ACT_UNREACHABLE, FR_ACT_PROHIBIT;
// include/uapi/linux/fib_rules.h). The action is where a route has its type.
func (r Rule) blocks() bool {
	const at = 7
	raw, err := hex.DecodeString(r.Raw)
	return err == nil && len(raw) > at && raw[at] >= 6 && raw[at] <= 8
}

// custom reports whether somebody added the rule: every namespace has those for local, main and default.
func (r Rule) custom() bool {
	switch {
	case r.Priority == 0 && r.Table == unix.RT_TABLE_LOCAL,
		r.Priority == 32766 && r.Table == unix.RT_TABLE_MAIN,
		r.Priority == 32767 && r.Table == unix.RT_TABLE_DEFAULT:
		return false
	}
	return true
}
