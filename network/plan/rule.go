package plan

import (
	"encoding/hex"

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
