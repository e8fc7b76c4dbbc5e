package rtnl

import (
	"slices"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LinkAttributes say for each setting what fills a RTM_NEWLINK request: the header's flags, or attributes. master is the
// index of the wanted master, 0 for none. The alternative names are not among them: they take requests of their own kinds.
var LinkAttributes = map[*plan.LinkSetting]func(header *nl.IfInfomsg, want *plan.Link, master int) []*nl.RtAttr{
	plan.SettingUp:       flag(unix.IFF_UP, func(l *plan.Link) bool { return l.Up }),
	plan.SettingNoARP:    flag(unix.IFF_NOARP, func(l *plan.Link) bool { return l.NoARP }),
	plan.SettingPromisc:  flag(unix.IFF_PROMISC, func(l *plan.Link) bool { return l.Promisc }),
	plan.SettingAllMulti: flag(unix.IFF_ALLMULTI, func(l *plan.Link) bool { return l.AllMulti }),
	plan.SettingName: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(want.Name))
	},
	plan.SettingAddrGenMode: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		inet6 := spec.AddRtAttr(unix.AF_INET6, nil)
		inet6.AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{uint8(slices.Index(plan.AddrGenModes, want.AddrGenMode))})
		return []*nl.RtAttr{spec}
	},
	plan.SettingMaster: func(_ *nl.IfInfomsg, _ *plan.Link, master int) []*nl.RtAttr {
		return Attribute(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master)))
	},
	plan.SettingLearning: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_KIND, []byte(plan.KindBridge))
		info.AddRtAttr(unix.IFLA_INFO_SLAVE_DATA|unix.NLA_F_NESTED, nil).
			AddRtAttr(unix.IFLA_BRPORT_LEARNING, []byte{bit(want.Learning)})
		return []*nl.RtAttr{info}
	},
	plan.SettingMAC: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_ADDRESS, want.MAC.HardwareAddr())
	},
	plan.SettingMTU: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_MTU, nl.Uint32Attr(uint32(want.MTU)))
	},
	plan.SettingTxQLen: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(want.TxQLen)))
	},
	plan.SettingGroup: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_GROUP, nl.Uint32Attr(want.Group))
	},
	plan.SettingAlias: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return Attribute(unix.IFLA_IFALIAS, []byte(want.Alias))
	},
	plan.SettingLocalSources: func(*nl.IfInfomsg, *plan.Link, int) []*nl.RtAttr {
		spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(iflaInetConf, nil)
		conf.AddRtAttr(devconfAcceptLocal, nl.Uint32Attr(1))
		conf.AddRtAttr(devconfRPFilter, nl.Uint32Attr(looseRPFilter))
		return []*nl.RtAttr{spec}
	},
	plan.SettingLoopbackSources: func(*nl.IfInfomsg, *plan.Link, int) []*nl.RtAttr {
		spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
		spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(iflaInetConf, nil).AddRtAttr(devconfRouteLocalnet, nl.Uint32Attr(1))
		return []*nl.RtAttr{spec}
	},
	plan.SettingBridge: func(_ *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		return []*nl.RtAttr{bridgeInfo(*want.BridgeSettings)}
	},
}

// IFLA_INET_CONF and IPV4_DEVCONF_… (include/uapi/linux/if_link.h, ip.h), and what Documentation/networking/ip-sysctl.rst
// calls loose mode. They are set without /proc/sys, and so where that is read-only.
const (
	iflaInetConf         = 1
	devconfRPFilter      = 8
	devconfAcceptLocal   = 23
	devconfRouteLocalnet = 26
	looseRPFilter        = 2
)

// flag sets or clears one of the header's.
func flag(bit uint32, wanted func(*plan.Link) bool) func(*nl.IfInfomsg, *plan.Link, int) []*nl.RtAttr {
	return func(header *nl.IfInfomsg, want *plan.Link, _ int) []*nl.RtAttr {
		header.Change = bit
		if wanted(want) {
			header.Flags = bit
		}
		return nil
	}
}

// Attribute makes a list of one.
func Attribute(kind int, value []byte) []*nl.RtAttr { return []*nl.RtAttr{nl.NewRtAttr(kind, value)} }

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// bridgeInfo is the IFLA_LINKINFO of a bridge.
func bridgeInfo(o plan.BridgeSettings) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, []byte(plan.KindBridge))
	data := info.AddRtAttr(unix.IFLA_INFO_DATA, nil)
	data.AddRtAttr(unix.IFLA_BR_STP_STATE, nl.Uint32Attr(uint32(bit(o.STP))))
	data.AddRtAttr(unix.IFLA_BR_MCAST_SNOOPING, []byte{bit(o.MulticastSnooping)})
	data.AddRtAttr(unix.IFLA_BR_GROUP_FWD_MASK, nl.Uint16Attr(o.GroupForwardMask))
	return info
}
