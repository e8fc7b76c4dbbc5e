package network

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkAttributes say for each setting what fills a RTM_NEWLINK request: the header's flags, or attributes. master is the
// index of the wanted master, 0 for none. The alternative names are not among them: they take requests of their own kinds.
var linkAttributes = map[*linkSetting]func(header *nl.IfInfomsg, want *Link, master int) []*nl.RtAttr{
	settingUp:       flag(unix.IFF_UP, func(l *Link) bool { return l.Up }),
	settingNoARP:    flag(unix.IFF_NOARP, func(l *Link) bool { return l.NoARP }),
	settingPromisc:  flag(unix.IFF_PROMISC, func(l *Link) bool { return l.Promisc }),
	settingAllMulti: flag(unix.IFF_ALLMULTI, func(l *Link) bool { return l.AllMulti }),
	settingName: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(want.Name))
	},
	settingAddrGenMode: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		inet6 := spec.AddRtAttr(unix.AF_INET6, nil)
		inet6.AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{uint8(slices.Index(addrGenModes, want.AddrGenMode))})
		return []*nl.RtAttr{spec}
	},
	settingMaster: func(_ *nl.IfInfomsg, _ *Link, master int) []*nl.RtAttr {
		return attribute(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master)))
	},
	settingLearning: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_KIND, []byte(kindBridge))
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_DATA|unix.NLA_F_NESTED, nil).
			AddRtAttr(unix.IFLA_BRPORT_LEARNING, []byte{bit(want.Learning)})
		return []*nl.RtAttr{info}
	},
	settingMAC: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_ADDRESS, want.MAC.HardwareAddr())
	},
	settingMTU: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_MTU, nl.Uint32Attr(uint32(want.MTU)))
	},
	settingTxQLen: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(want.TxQLen)))
	},
	settingGroup: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_GROUP, nl.Uint32Attr(want.Group))
	},
	settingAlias: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return attribute(unix.IFLA_IFALIAS, []byte(want.Alias))
	},
	settingBridge: func(_ *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		return []*nl.RtAttr{bridgeInfo(*want.BridgeOptions)}
	},
}

// flag sets or clears one of the header's.
func flag(bit uint32, wanted func(*Link) bool) func(*nl.IfInfomsg, *Link, int) []*nl.RtAttr {
	return func(header *nl.IfInfomsg, want *Link, _ int) []*nl.RtAttr {
		header.Change = bit
		if wanted(want) {
			header.Flags = bit
		}
		return nil
	}
}

func attribute(kind int, value []byte) []*nl.RtAttr { return []*nl.RtAttr{nl.NewRtAttr(kind, value)} }

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// bridgeInfo is the IFLA_LINKINFO of a bridge.
func bridgeInfo(o BridgeOptions) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(kindBridge))
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	data.AddRtAttr(unix.IFLA_BR_STP_STATE, nl.Uint32Attr(uint32(bit(o.STP))))
	data.AddRtAttr(unix.IFLA_BR_MCAST_SNOOPING, []byte{bit(o.MulticastSnooping)})
	data.AddRtAttr(unix.IFLA_BR_GROUP_FWD_MASK, nl.Uint16Attr(o.GroupForwardMask))
	return info
}
