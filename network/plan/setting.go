package plan

import (
	"fmt"
	"slices"
	"strings"
)

// LinkSetting is one property of a link that a request of its own sets.
type LinkSetting struct {
	do     string
	differ func(have, want *Link) bool
	copy   func(have, want *Link)
	detail func(have, want *Link) string
	// nicOnly settings are not ours to hold on links that we make: nothing depends on them there.
	nicOnly bool
	// down: the link must be down to change it, or had better be.
	down bool
}

func flagSetting(do, on, off string, field func(*Link) *bool) *LinkSetting {
	return &LinkSetting{
		do:     do,
		differ: func(have, want *Link) bool { return *field(have) != *field(want) },
		copy:   func(have, want *Link) { *field(have) = *field(want) },
		detail: func(_, want *Link) string {
			if *field(want) {
				return on
			}
			return off
		},
	}
}

var (
	SettingUp       = flagSetting("set link", "up", "down", func(l *Link) *bool { return &l.Up })
	SettingNoARP    = flagSetting("set arp", "off", "on", func(l *Link) *bool { return &l.NoARP })
	SettingPromisc  = nicOnly(flagSetting("set promisc", "on", "off", func(l *Link) *bool { return &l.Promisc }))
	SettingAllMulti = nicOnly(flagSetting("set allmulticast", "on", "off", func(l *Link) *bool { return &l.AllMulti }))

	// SettingLRO is special in that no request of rtnetlink sets it. A bridge has the kernel see to it (dev_disable_lro). A link
	// that stands on another one merges if that does, which does not any more once this one does not (NETIF_F_UPPER_DISABLES),
	// and is on the node, where podnic leaves all as it is. So there it is never set on: the kernel would take it for nothing.
	SettingLRO = nicOnly(&LinkSetting{
		do:     "set lro",
		differ: func(have, want *Link) bool { return have.LRO != want.LRO && (have.LRO || have.ParentIndex == 0) },
		copy:   func(have, want *Link) { have.LRO = want.LRO },
		detail: func(_, want *Link) string { return onOff(want.LRO) },
	})

	SettingName = &LinkSetting{
		do:     "rename",
		differ: func(have, want *Link) bool { return have.Name != want.Name },
		copy:   func(have, want *Link) { have.Name = want.Name },
		detail: func(_, want *Link) string { return "to " + want.Name },
		down:   true, // kernels before 6.2 or so refuse to rename a link that is up
	}

	SettingAddrGenMode = &LinkSetting{
		do: "set addrgenmode",
		// A link without IPv6 has no mode, and asking for one fails with EAFNOSUPPORT.
		differ: func(have, want *Link) bool {
			return have.AddrGenMode != want.AddrGenMode && have.AddrGenMode != "" && want.AddrGenMode != ""
		},
		copy:   func(have, want *Link) { have.AddrGenMode = want.AddrGenMode },
		detail: func(_, want *Link) string { return want.AddrGenMode },
	}

	SettingMaster = &LinkSetting{
		do: "set master",
		differ: func(have, want *Link) bool {
			if want.Master != "" || want.MasterIndex == 0 {
				return have.Master != want.Master || want.Master == "" && have.MasterIndex != 0
			}
			return have.MasterIndex != want.MasterIndex
		},
		copy: func(have, want *Link) {
			have.Master, have.MasterIndex = want.Master, want.MasterIndex
			have.Learning = want.Master != "" // a new port learns until it is told not to
		},
		detail: func(_, want *Link) string {
			if want.Master == "" {
				return "none"
			}
			return string(want.Master)
		},
		down: true, // so that no frame passes and nothing is learnt before the port is set up
	}

	SettingLearning = &LinkSetting{
		do:     "set port learning",
		differ: func(have, want *Link) bool { return want.Master != "" && have.Learning != want.Learning },
		copy:   func(have, want *Link) { have.Learning = want.Learning },
		detail: func(_, want *Link) string { return onOff(want.Learning) },
	}

	SettingMAC = &LinkSetting{
		do:     "set address",
		differ: func(have, want *Link) bool { return have.MAC != want.MAC && !want.MAC.IsZero() },
		copy:   func(have, want *Link) { have.MAC = want.MAC },
		detail: func(_, want *Link) string { return want.MAC.String() },
		down:   true, // not every driver changes the address of a link that is up
	}

	SettingMTU = &LinkSetting{
		do:     "set mtu",
		differ: func(have, want *Link) bool { return have.MTU != want.MTU },
		copy:   func(have, want *Link) { have.MTU = want.MTU },
		detail: func(_, want *Link) string { return fmt.Sprint(want.MTU) },
	}

	SettingTxQLen = &LinkSetting{
		do:      "set txqueuelen",
		nicOnly: true,
		differ:  func(have, want *Link) bool { return have.TxQLen != want.TxQLen },
		copy:    func(have, want *Link) { have.TxQLen = want.TxQLen },
		detail:  func(_, want *Link) string { return fmt.Sprint(want.TxQLen) },
	}

	SettingGroup = &LinkSetting{
		do:     "set group",
		differ: func(have, want *Link) bool { return have.Group != want.Group },
		copy:   func(have, want *Link) { have.Group = want.Group },
		detail: func(_, want *Link) string { return fmt.Sprint(want.Group) },
	}

	SettingAlias = &LinkSetting{
		do: "set alias",
		differ: func(have, want *Link) bool {
			return have.Alias != want.Alias && (want.Role == NIC || want.Alias != "")
		},
		copy:   func(have, want *Link) { have.Alias = want.Alias },
		detail: func(_, want *Link) string { return fmt.Sprintf("%q", want.Alias) },
	}

	// SettingAltNames is special in that it takes requests of its own kinds (RTM_NEWLINKPROP, RTM_DELLINKPROP).
	SettingAltNames = &LinkSetting{
		do:      "set altnames",
		nicOnly: true,
		differ:  func(have, want *Link) bool { return !slices.Equal(have.AltNames, want.AltNames) },
		copy:    func(have, want *Link) { have.AltNames = slices.Clone(want.AltNames) },
		detail:  func(_, want *Link) string { return strings.Join(want.AltNames, " ") },
	}

	SettingLocalSources = &LinkSetting{
		do:     "set accept_local",
		differ: func(have, want *Link) bool { return want.LocalSources && !have.LocalSources },
		copy:   func(have, want *Link) { have.LocalSources = want.LocalSources },
		detail: func(_, want *Link) string { return onOff(want.LocalSources) + ", rp_filter loose" },
	}

	SettingLoopbackSources = &LinkSetting{
		do:     "set route_localnet",
		differ: func(have, want *Link) bool { return want.LoopbackSources && !have.LoopbackSources },
		copy:   func(have, want *Link) { have.LoopbackSources = want.LoopbackSources },
		detail: func(_, want *Link) string { return onOff(want.LoopbackSources) },
	}

	SettingBridge = &LinkSetting{
		do: "set bridge",
		differ: func(have, want *Link) bool {
			return want.BridgeSettings != nil && have.BridgeSettings != nil && *have.BridgeSettings != *want.BridgeSettings
		},
		copy: func(have, want *Link) { options := *want.BridgeSettings; have.BridgeSettings = &options },
		detail: func(_, want *Link) string {
			o := want.BridgeSettings
			return fmt.Sprintf("stp %s, multicast snooping %s, group_fwd_mask %#x", onOff(o.STP), onOff(o.MulticastSnooping), o.GroupForwardMask)
		},
	}
)

// linkSettings in the order in which they are made. The name is apart: a swap takes two links; up is apart: it comes last.
var linkSettings = []*LinkSetting{
	SettingGroup, SettingMAC, SettingMTU, SettingAddrGenMode,
	SettingNoARP, SettingPromisc, SettingAllMulti,
	SettingTxQLen, SettingAlias, SettingAltNames, SettingBridge, SettingLocalSources, SettingLoopbackSources, SettingMaster, SettingLearning,
}

func nicOnly(s *LinkSetting) *LinkSetting {
	s.nicOnly = true
	return s
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
