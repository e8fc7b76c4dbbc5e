package rtnl

import (
	"fmt"
	"net"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Links lists every link of the namespace. Roles are not known yet, and masters are only indexes.
func (r *Conn) Links() ([]plan.Link, error) {
	messages, err := r.Dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]plan.Link, 0, len(messages))
	for _, m := range messages {
		l, err := decodeLink(m)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

func decodeLink(m []byte) (plan.Link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return plan.Link{}, fmt.Errorf("link message of %d bytes", len(m))
	}
	header := nl.DeserializeIfInfomsg(m)
	attrs, err := attributes(m[unix.SizeofIfInfomsg:])
	if err != nil {
		return plan.Link{}, err
	}
	l := plan.Link{
		Name:        text(attrs.get(unix.IFLA_IFNAME)),
		Index:       int(header.Index),
		MTU:         int(u32(attrs.get(unix.IFLA_MTU))),
		Up:          header.Flags&unix.IFF_UP != 0,
		LowerUp:     header.Flags&unix.IFF_LOWER_UP != 0,
		NoARP:       header.Flags&unix.IFF_NOARP != 0,
		Promisc:     header.Flags&unix.IFF_PROMISC != 0,
		AllMulti:    header.Flags&unix.IFF_ALLMULTI != 0,
		Group:       u32(attrs.get(unix.IFLA_GROUP)),
		Alias:       text(attrs.get(unix.IFLA_IFALIAS)),
		TxQLen:      int(u32(attrs.get(unix.IFLA_TXQLEN))),
		MasterIndex: int(u32(attrs.get(unix.IFLA_MASTER))),
		ParentIndex: int(u32(attrs.get(unix.IFLA_LINK))),
		Type:        header.Type,
	}
	_, l.HasPeer = attrs.find(unix.IFLA_LINK_NETNSID)
	if hw := attrs.get(unix.IFLA_ADDRESS); len(hw) == len(identity.MAC{}) {
		l.MAC = identity.MAC(net.HardwareAddr(hw))
	}
	// struct rtnl_link_stats64 (include/uapi/linux/if_link.h): packets, bytes, errors and dropped, each rx and tx.
	if stats := attrs.get(unix.IFLA_STATS64); len(stats) >= 64 {
		l.RxFrames, l.TxFrames = nl.NativeEndian().Uint64(stats), nl.NativeEndian().Uint64(stats[8:])
		l.RxDropped, l.TxDropped = nl.NativeEndian().Uint64(stats[48:]), nl.NativeEndian().Uint64(stats[56:])
	}
	if list, ok := attrs.find(unix.IFLA_PROP_LIST); ok {
		props, err := attributes(list)
		if err != nil {
			return plan.Link{}, fmt.Errorf("alternative names of %s: %w", l.Name, err)
		}
		for kind, name := range props.all {
			if kind == unix.IFLA_ALT_IFNAME {
				l.AltNames = append(l.AltNames, text(name))
			}
		}
		slices.Sort(l.AltNames)
	}
	if err := decodeFamilies(attrs.get(unix.IFLA_AF_SPEC), &l); err != nil {
		return plan.Link{}, err
	}
	if info, ok := attrs.find(unix.IFLA_LINKINFO); ok {
		if err := decodeLinkInfo(info, &l); err != nil {
			return plan.Link{}, fmt.Errorf("details of %s: %w", l.Name, err)
		}
	}
	return l, nil
}

// SetAlias gives a link another alias; empty takes it away.
func (r *Conn) SetAlias(link plan.Link, alias string) error {
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(link.Index)
	if err := r.Do(unix.RTM_NEWLINK, 0, header, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias))); err != nil {
		return fmt.Errorf("set the alias of %s: %w", link.Name, err)
	}
	return nil
}

func decodeFamilies(b []byte, l *plan.Link) error {
	families, err := attributes(b)
	if err != nil {
		return err
	}
	inet, err := attributes(families.get(unix.AF_INET))
	if err != nil {
		return err
	}
	// An array of int, from IPV4_DEVCONF_ 1 on.
	conf := inet.get(iflaInetConf)
	setting := func(number int) uint32 { return u32(conf[min(len(conf), 4*(number-1)):]) }
	l.LocalSources = setting(devconfAcceptLocal) == 1 && setting(devconfRPFilter) == looseRPFilter
	l.LoopbackSources = setting(devconfRouteLocalnet) == 1
	inet6, ok := families.find(unix.AF_INET6)
	if !ok {
		return nil
	}
	settings, err := attributes(inet6)
	if err != nil {
		return err
	}
	if mode := u8(settings.get(unix.IFLA_INET6_ADDR_GEN_MODE)); int(mode) < len(plan.AddrGenModes) {
		l.AddrGenMode = plan.AddrGenModes[mode]
	}
	return nil
}

// modeName is that of IPVLAN_MODE_… and NETKIT_… (include/uapi/linux/if_link.h), which have the same numbers.
func modeName(number int) string {
	modes := []string{plan.ModeL2, "l3", "l3s"}
	if number < len(modes) {
		return modes[number]
	}
	return fmt.Sprint(number)
}

func decodeLinkInfo(b []byte, l *plan.Link) error {
	info, err := attributes(b)
	if err != nil {
		return err
	}
	l.Kind = text(info.get(unix.IFLA_INFO_KIND))
	data, err := attributes(info.get(unix.IFLA_INFO_DATA))
	if err != nil {
		return err
	}
	switch l.Kind {
	case plan.KindBridge:
		l.BridgeSettings = &plan.BridgeSettings{
			STP:               u32(data.get(unix.IFLA_BR_STP_STATE)) != 0,
			MulticastSnooping: u8(data.get(unix.IFLA_BR_MCAST_SNOOPING)) != 0,
			GroupForwardMask:  u16(data.get(unix.IFLA_BR_GROUP_FWD_MASK)),
		}
	case plan.KindIPVLAN: // IFLA_IPVLAN_MODE: 16 bits
		l.Mode = modeName(int(u16(data.get(unix.IFLA_IPVLAN_MODE))))
	case plan.KindNetkit:
		l.Mode = modeName(int(u32(data.get(unix.IFLA_NETKIT_MODE))))
	case plan.KindTun:
		l.TapSettings = &plan.TapSettings{
			VNetHdr:    u8(data.get(unix.IFLA_TUN_VNET_HDR)) != 0,
			MultiQueue: u8(data.get(unix.IFLA_TUN_MULTI_QUEUE)) != 0,
			Persistent: u8(data.get(unix.IFLA_TUN_PERSIST)) != 0,
		}
		if v, ok := data.find(unix.IFLA_TUN_OWNER); ok {
			owner := u32(v)
			l.TapSettings.Owner = &owner
		}
		if v, ok := data.find(unix.IFLA_TUN_GROUP); ok {
			group := u32(v)
			l.TapSettings.Group = &group
		}
	}
	if text(info.get(unix.IFLA_INFO_SLAVE_KIND)) == plan.KindBridge {
		port, err := attributes(info.get(unix.IFLA_INFO_SLAVE_DATA))
		if err != nil {
			return err
		}
		l.Learning = u8(port.get(unix.IFLA_BRPORT_LEARNING)) != 0
	}
	return nil
}
