package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where tc's filters hang (TC_H_…, include/uapi/linux/pkt_sched.h). A link has one qdisc there, ingress or clsact.
const (
	clsactParent  = 0xfffffff1
	clsactHandle  = 0xffff0000
	ingressParent = 0xfffffff2
	egressParent  = 0xfffffff3
)

var hookParents = map[string]uint32{plan.HookIngress: ingressParent, plan.HookEgress: egressParent}

// Of include/uapi/linux/tc_act/tc_mirred.h and include/uapi/linux/pkt_cls.h.
const (
	sizeofMirred   = 28 // struct tc_mirred
	egressRedirect = 1  // TCA_EGRESS_REDIR
	egressMirror   = 2  // TCA_EGRESS_MIRROR
)

// ErrNoTC says that the kernel lacks a part of what redirects frames.
var ErrNoTC = errors.New("the kernel's traffic control cannot redirect frames " +
	"(CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF, CONFIG_NET_ACT_MIRRED)")

// tcError recognizes what a kernel says that lacks a qdisc, a classifier or an action (ENOENT), or all of tc.
func tcError(err error) error {
	for _, missing := range []error{unix.ENOENT, unix.EOPNOTSUPP} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w: %w", ErrNoTC, err)
		}
	}
	return err
}

// Qdiscs reads, of the links with roles, the qdiscs that filters hang on, and these.
func (r *Conn) Qdiscs(roles map[int]plan.Role) ([]plan.Qdisc, error) {
	messages, err := r.Dump(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, &nl.TcMsg{})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without tc
	}
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	var all []plan.Qdisc
	for _, m := range messages {
		header, attrs, err := tcMessage(m)
		if err != nil {
			return nil, fmt.Errorf("list qdiscs: %w", err)
		}
		role, known := roles[int(header.Ifindex)]
		if !known || header.Parent != clsactParent {
			continue
		}
		q := plan.Qdisc{Link: role, Kind: text(attrs.get(nl.TCA_KIND)), Dropped: dropped(attrs)}
		for _, hook := range []string{plan.HookEgress, plan.HookIngress} {
			if hook == plan.HookEgress && q.Kind != plan.QdiscClsact {
				continue
			}
			filters, err := r.tcFilters(int(header.Ifindex), hook, roles)
			if err != nil {
				return nil, fmt.Errorf("list tc's filters at %s of link %d: %w", hook, header.Ifindex, err)
			}
			q.Filters = append(q.Filters, filters...)
		}
		all = append(all, q)
	}
	return all, nil
}

func tcMessage(m []byte) (*nl.TcMsg, attributeSet, error) {
	if len(m) < nl.SizeofTcMsg {
		return nil, nil, fmt.Errorf("a message of %d bytes", len(m))
	}
	attrs, err := attributes(m[nl.SizeofTcMsg:])
	return nl.DeserializeTcMsg(m), attrs, err
}

// dropped is what struct gnet_stats_queue says (include/uapi/linux/gen_stats.h): queued, backlog, drops, …
func dropped(attrs attributeSet) uint64 {
	stats, err := attributes(attrs.get(nl.TCA_STATS2))
	if err != nil {
		return 0
	}
	if queue := stats.get(nl.TCA_STATS_QUEUE); len(queue) >= 12 {
		return uint64(u32(queue[8:]))
	}
	return 0
}

func (r *Conn) tcFilters(index int, hook string, roles map[int]plan.Role) ([]plan.TCFilter, error) {
	request := &nl.TcMsg{Ifindex: int32(index), Parent: hookParents[hook]}
	messages, err := r.Dump(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, request)
	if errors.Is(err, unix.EMSGSIZE) {
		// The first answer on a socket is no larger than 8 KiB, which a long program does not fit in; then the kernel
		// knows what this one takes (netlink_dump).
		messages, err = r.Dump(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, request)
	}
	if err != nil {
		return nil, err
	}
	var all []plan.TCFilter
	for _, m := range messages {
		header, attrs, err := tcMessage(m)
		if err != nil {
			return nil, err
		}
		options, ok := attrs.find(nl.TCA_OPTIONS)
		if !ok {
			continue // the head of a list of filters of one priority
		}
		f := plan.TCFilter{
			Hook: hook, Priority: uint16(header.Info >> 16), Handle: header.Handle, Kind: text(attrs.get(nl.TCA_KIND)),
		}
		if protocol := nl.Swap16(uint16(header.Info)); protocol != unix.ETH_P_ALL {
			f.Unknown = fmt.Sprintf("protocol %#x", protocol)
		}
		if f.Kind == "bpf" {
			err = decodeBPF(options, &f, roles)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// decodeBPF reads a filter's program and action.
func decodeBPF(b []byte, f *plan.TCFilter, roles map[int]plan.Role) error {
	options, err := attributes(b)
	if err != nil {
		return err
	}
	for ops := options.get(nl.TCA_BPF_OPS); len(ops) >= 8; ops = ops[8:] { // struct sock_filter
		f.Program = append(f.Program, bpf.RawInstruction{Op: u16(ops), Jt: ops[2], Jf: ops[3], K: u32(ops[4:])})
	}
	f.Direct = u32(options.get(nl.TCA_BPF_FLAGS))&nl.TCA_BPF_FLAG_ACT_DIRECT != 0
	if name, ok := options.find(nl.TCA_BPF_NAME); ok {
		f.Unknown += "program " + text(name)
	}
	actions, err := attributes(options.get(nl.TCA_BPF_ACT))
	if err != nil {
		return err
	}
	for order, value := range actions.all {
		action, err := attributes(value)
		if err != nil {
			return err
		}
		kind := text(action.get(nl.TCA_ACT_KIND))
		data, err := attributes(action.get(nl.TCA_ACT_OPTIONS))
		if err != nil {
			return err
		}
		parameters := data.get(nl.TCA_MIRRED_PARMS)
		if order != 1 || kind != "mirred" || len(parameters) < sizeofMirred {
			f.Unknown += "action " + kind
			continue
		}
		switch [2]uint32{u32(parameters[8:]), u32(parameters[20:])} {
		case [2]uint32{plan.FrameEnded, egressRedirect}:
		case [2]uint32{plan.FrameToStack, egressMirror}:
			f.Copy = true
		case [2]uint32{plan.FrameEnded, egressMirror}:
			f.Uncounted = true
		default:
			f.Unknown += "another mirred"
			continue
		}
		to := int(u32(parameters[24:]))
		if f.Redirect = roles[to]; f.Redirect == "" {
			f.Redirect = plan.Role(fmt.Sprintf("link %d", to)) // 0: it is gone
		}
		f.Frames = redirected(action)
	}
	return nil
}

// redirected is what struct gnet_stats_basic says of an action: bytes, packets.
func redirected(action attributeSet) uint64 {
	stats, err := attributes(action.get(nl.TCA_ACT_STATS))
	if err != nil {
		return 0
	}
	if wide := stats.get(nl.TCA_STATS_PKT64); len(wide) >= 8 {
		return binary.NativeEndian.Uint64(wide)
	}
	if basic := stats.get(nl.TCA_STATS_BASIC); len(basic) >= 12 {
		return uint64(u32(basic[8:]))
	}
	return 0
}

// AddQdisc gives a link the qdisc that filters hang on.
func (r *Conn) AddQdisc(index int) error {
	return tcError(r.Do(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		&nl.TcMsg{Ifindex: int32(index), Handle: clsactHandle, Parent: clsactParent},
		nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(plan.QdiscClsact))))
}

// DeleteQdisc takes it away, with all that hangs on it. One that is not there is no error (ENOENT, EINVAL).
func (r *Conn) DeleteQdisc(index int) error {
	err := r.Do(unix.RTM_DELQDISC, 0, &nl.TcMsg{Ifindex: int32(index), Handle: clsactHandle, Parent: clsactParent})
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return Gone(err)
}

// PutTCFilter puts a filter in place, or in the place of the one that is there, with no moment in which there is none.
// redirect is the index of the link that it redirects to.
func (r *Conn) PutTCFilter(index int, f plan.TCFilter, redirect int) error {
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(f.Program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, encodeProgram(f.Program))
	if f.Direct {
		options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	}
	if f.Redirect != "" {
		action := options.AddRtAttr(nl.TCA_BPF_ACT, nil).AddRtAttr(1, nil)
		action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
		parameters := make([]byte, sizeofMirred)
		then, what := uint32(plan.FrameEnded), uint32(egressRedirect)
		switch {
		case f.Copy:
			then, what = plan.FrameToStack, egressMirror
		case f.Uncounted:
			what = egressMirror
		}
		binary.NativeEndian.PutUint32(parameters[8:], then)
		binary.NativeEndian.PutUint32(parameters[20:], what)
		binary.NativeEndian.PutUint32(parameters[24:], uint32(redirect))
		action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, parameters)
	}
	return tcError(r.Do(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, tcFilterHeader(index, f),
		nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(f.Kind)), options))
}

// DeleteTCFilter takes a filter away. One that is not there is no error, nor is a qdisc that is not there (EINVAL).
func (r *Conn) DeleteTCFilter(index int, f plan.TCFilter) error {
	err := r.Do(unix.RTM_DELTFILTER, 0, tcFilterHeader(index, f), nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(f.Kind)))
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return Gone(err)
}

func tcFilterHeader(index int, f plan.TCFilter) *nl.TcMsg {
	return &nl.TcMsg{
		Ifindex: int32(index), Handle: f.Handle, Parent: hookParents[f.Hook],
		Info: uint32(f.Priority)<<16 | uint32(nl.Swap16(unix.ETH_P_ALL)),
	}
}

func encodeProgram(program []bpf.RawInstruction) []byte {
	var b []byte
	for _, in := range program {
		b = binary.NativeEndian.AppendUint16(b, in.Op)
		b = append(b, in.Jt, in.Jf)
		b = binary.NativeEndian.AppendUint32(b, in.K)
	}
	return b
}
