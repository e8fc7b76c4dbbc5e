package network

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkSetting is one property of a link that a request of its own sets.
type linkSetting struct {
	do     string
	differ func(have, want *Link) bool
	copy   func(have, want *Link)
	detail func(have, want *Link) string
	// attributes fills a RTM_NEWLINK request. master is the index of the wanted master, 0 for none.
	attributes func(header *nl.IfInfomsg, have, want *Link, master int) []*nl.RtAttr
	// nicOnly settings are not ours to hold on links that we make: nothing depends on them there.
	nicOnly bool
	// down: the link must be down to change it, or had better be.
	down bool
}

func flagSetting(do, on, off string, bit uint32, field func(*Link) *bool) *linkSetting {
	return &linkSetting{
		do:     do,
		differ: func(have, want *Link) bool { return *field(have) != *field(want) },
		copy:   func(have, want *Link) { *field(have) = *field(want) },
		detail: func(_, want *Link) string {
			if *field(want) {
				return on
			}
			return off
		},
		attributes: func(header *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			header.Change = bit
			if *field(want) {
				header.Flags = bit
			}
			return nil
		},
	}
}

func attribute(kind int, value []byte) []*nl.RtAttr { return []*nl.RtAttr{nl.NewRtAttr(kind, value)} }

var (
	settingUp = flagSetting("set link", "up", "down", unix.IFF_UP, func(l *Link) *bool { return &l.Up })

	settingName = &linkSetting{
		do:     "rename",
		differ: func(have, want *Link) bool { return have.Name != want.Name },
		copy:   func(have, want *Link) { have.Name = want.Name },
		detail: func(_, want *Link) string { return "to " + want.Name },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(want.Name))
		},
		down: true, // kernels before 6.2 or so refuse to rename a link that is up
	}

	settingAddrGenMode = &linkSetting{
		do: "set addrgenmode",
		// A link without IPv6 has no mode, and asking for one fails with EAFNOSUPPORT.
		differ: func(have, want *Link) bool {
			return have.AddrGenMode != want.AddrGenMode && have.AddrGenMode != "" && want.AddrGenMode != ""
		},
		copy:   func(have, want *Link) { have.AddrGenMode = want.AddrGenMode },
		detail: func(_, want *Link) string { return want.AddrGenMode },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
			inet6 := spec.AddRtAttr(unix.AF_INET6, nil)
			inet6.AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{uint8(slices.Index(addrGenModes, want.AddrGenMode))})
			return []*nl.RtAttr{spec}
		},
	}

	settingMaster = &linkSetting{
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
		attributes: func(_ *nl.IfInfomsg, _, _ *Link, master int) []*nl.RtAttr {
			return attribute(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master)))
		},
		down: true, // so that no frame passes and nothing is learnt before the port is set up
	}

	settingLearning = &linkSetting{
		do:     "set port learning",
		differ: func(have, want *Link) bool { return want.Master != "" && have.Learning != want.Learning },
		copy:   func(have, want *Link) { have.Learning = want.Learning },
		detail: func(_, want *Link) string { return onOff(want.Learning) },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(unix.IFLA_INFO_SLAVE_KIND, []byte(kindBridge))
			info.AddRtAttr(unix.IFLA_INFO_SLAVE_DATA|unix.NLA_F_NESTED, nil).
				AddRtAttr(unix.IFLA_BRPORT_LEARNING, []byte{boolByte(want.Learning)})
			return []*nl.RtAttr{info}
		},
	}

	settingMAC = &linkSetting{
		do:     "set address",
		differ: func(have, want *Link) bool { return have.MAC != want.MAC && !want.MAC.IsZero() },
		copy:   func(have, want *Link) { have.MAC = want.MAC },
		detail: func(_, want *Link) string { return want.MAC.String() },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_ADDRESS, want.MAC.HardwareAddr())
		},
		down: true, // not every driver changes the address of a link that is up
	}

	settingMTU = &linkSetting{
		do:     "set mtu",
		differ: func(have, want *Link) bool { return have.MTU != want.MTU },
		copy:   func(have, want *Link) { have.MTU = want.MTU },
		detail: func(_, want *Link) string { return fmt.Sprint(want.MTU) },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_MTU, nl.Uint32Attr(uint32(want.MTU)))
		},
	}

	settingTxQLen = &linkSetting{
		do:      "set txqueuelen",
		nicOnly: true,
		differ:  func(have, want *Link) bool { return have.TxQLen != want.TxQLen },
		copy:    func(have, want *Link) { have.TxQLen = want.TxQLen },
		detail:  func(_, want *Link) string { return fmt.Sprint(want.TxQLen) },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(want.TxQLen)))
		},
	}

	settingGroup = &linkSetting{
		do:     "set group",
		differ: func(have, want *Link) bool { return have.Group != want.Group },
		copy:   func(have, want *Link) { have.Group = want.Group },
		detail: func(_, want *Link) string { return fmt.Sprint(want.Group) },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_GROUP, nl.Uint32Attr(want.Group))
		},
	}

	settingAlias = &linkSetting{
		do:      "set alias",
		nicOnly: true,
		differ:  func(have, want *Link) bool { return have.Alias != want.Alias },
		copy:    func(have, want *Link) { have.Alias = want.Alias },
		detail:  func(_, want *Link) string { return fmt.Sprintf("%q", want.Alias) },
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return attribute(unix.IFLA_IFALIAS, []byte(want.Alias))
		},
	}

	// settingAltNames is special in that it takes requests of its own kinds (RTM_NEWLINKPROP, RTM_DELLINKPROP).
	settingAltNames = &linkSetting{
		do:      "set altnames",
		nicOnly: true,
		differ:  func(have, want *Link) bool { return !slices.Equal(have.AltNames, want.AltNames) },
		copy:    func(have, want *Link) { have.AltNames = slices.Clone(want.AltNames) },
		detail:  func(_, want *Link) string { return strings.Join(want.AltNames, " ") },
	}

	settingBridge = &linkSetting{
		do: "set bridge",
		differ: func(have, want *Link) bool {
			return want.BridgeOptions != nil && have.BridgeOptions != nil && *have.BridgeOptions != *want.BridgeOptions
		},
		copy: func(have, want *Link) { options := *want.BridgeOptions; have.BridgeOptions = &options },
		detail: func(_, want *Link) string {
			o := want.BridgeOptions
			return fmt.Sprintf("stp %s, multicast snooping %s, group_fwd_mask %#x", onOff(o.STP), onOff(o.MulticastSnooping), o.GroupForwardMask)
		},
		attributes: func(_ *nl.IfInfomsg, _, want *Link, _ int) []*nl.RtAttr {
			return []*nl.RtAttr{bridgeInfo(*want.BridgeOptions)}
		},
	}
)

// linkSettings in the order in which they are made. The name is apart: a swap takes two links; up is apart: it comes last.
var linkSettings = []*linkSetting{
	settingGroup, settingMAC, settingMTU, settingAddrGenMode,
	flagSetting("set arp", "off", "on", unix.IFF_NOARP, func(l *Link) *bool { return &l.NoARP }),
	nicOnly(flagSetting("set promisc", "on", "off", unix.IFF_PROMISC, func(l *Link) *bool { return &l.Promisc })),
	nicOnly(flagSetting("set allmulticast", "on", "off", unix.IFF_ALLMULTI, func(l *Link) *bool { return &l.AllMulti })),
	settingTxQLen, settingAlias, settingAltNames, settingBridge, settingMaster, settingLearning,
}

func nicOnly(s *linkSetting) *linkSetting {
	s.nicOnly = true
	return s
}

// bridgeInfo is the IFLA_LINKINFO of a bridge.
func bridgeInfo(o BridgeOptions) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(kindBridge))
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	data.AddRtAttr(unix.IFLA_BR_STP_STATE, nl.Uint32Attr(uint32(boolByte(o.STP))))
	data.AddRtAttr(unix.IFLA_BR_MCAST_SNOOPING, []byte{boolByte(o.MulticastSnooping)})
	data.AddRtAttr(unix.IFLA_BR_GROUP_FWD_MASK, nl.Uint16Attr(o.GroupForwardMask))
	return info
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
