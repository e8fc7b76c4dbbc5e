package plan

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What tc makes of a frame by what a program says of it (TC_ACT_…, include/uapi/linux/pkt_cls.h).
const (
	FrameToStack = 0          // TC_ACT_OK: no other filter of tc is asked, and the stack has it
	FrameDropped = 2          // TC_ACT_SHOT, which the qdisc counts
	FrameEnded   = 4          // TC_ACT_STOLEN, which drops it as well, and nobody counts
	FrameOnward  = 0xffffffff // TC_ACT_UNSPEC: the next filter is asked
)

// verdicts are what a program says where rules of nftables would accept, drop, forward or copy a frame, and where no
// rule decides.
type verdicts struct{ accept, drop, forward, copy, policy uint32 }

// looked say what is dropped, and leave all else to the next filter.
var looked = verdicts{FrameOnward, FrameDropped, FrameOnward, FrameOnward, FrameOnward}

// fenced say what is to be redirected by leaving it to the next filter. What is copied is among that.
var fenced = verdicts{FrameToStack, FrameDropped, FrameOnward, FrameOnward, FrameDropped}

// Beside a guard, whose drops the qdisc counts, a fence drops without being counted.
var (
	lookedUncounted = verdicts{FrameOnward, FrameEnded, FrameOnward, FrameOnward, FrameOnward}
	fencedUncounted = verdicts{FrameToStack, FrameEnded, FrameOnward, FrameOnward, FrameEnded}
)

// copied take what is to be copied, for an action, and nothing else.
var copied = verdicts{frameOthers, frameOthers, frameOthers, frameTaken, frameOthers}

// What a program that has an action says (cls_bpf_classify, net/sched/cls_bpf.c).
const (
	frameOthers = 0
	frameTaken  = 0xffffffff
)

// ethernet is the length of its header. What tc shows to a program begins with it, less the outermost VLAN tag, which
// the kernel keeps beside the frame (skb_vlan_untag).
const ethernet = 14

// MaxProgram is how many instructions a program may have. The kernel takes 4096 (BPF_MAXINSNS), and shows a filter
// only as far as it fits in 32 KiB (netlink_dump).
const MaxProgram = 4000

// Words of a program's memory.
const (
	transportProtocol = iota // the number that nftables calls meta l4proto, or untold
	transportHeader          // where it begins, counted from the frame's first byte; 0: this frame has none
	nextHeader               // of IPv6
	headerOffset             // of IPv6's extension header at hand
	fragmentField            // of IPv6's first fragment header, the 16 bits with the offset, and hasFragment; 0: it has none
)

// untold is not a protocol: the IP header is not sound.
const untold = 0x100

// hasFragment tells a fragment header of zeros from none.
const hasFragment = 0x10000

// maxExtensions is how many extension headers of IPv6 are looked behind. RFC 8200 (4.1) has each at most once,
// destination options twice: six. What hides behind more is dropped.
const maxExtensions = 7

// programs writes a chain of rules, with those that it leads to, as classic BPF: one program that says what the
// kernel's nftables would, from the same expressions. Rules at the beginning that only drop may be too many for one
// program; then there are more, of which each leaves to the next what it does not drop.
//
// A load from behind a frame's end would end a program with 0, so each is behind a comparison with the length.
func (f *Filter) programs(chain string) (all [][]bpf.Instruction, err error) {
	rules := f.of(chain)
	for len(rules) > 0 && jumpsTo(rules[0]) != "" {
		// What returns from there goes on here, which is behind that program.
		looks := jumpsTo(rules[0])
		program, err := f.program(looks, f.of(looks), looked)
		if err != nil {
			return nil, err
		}
		all, rules = append(all, program), rules[1:]
	}
	look, fence := looked, fenced
	if f.guarded(chain) {
		look, fence = lookedUncounted, fencedUncounted
	}
	drops := dropsFirst(rules)
	for {
		program, err := f.program(chain, rules, fence)
		if err != nil || len(program) <= MaxProgram {
			return append(all, program), err
		}
		take := drops
		for ; take > 0; take = take * 3 / 4 {
			program, err = f.program(chain, rules[:take], look)
			if err != nil {
				return nil, err
			}
			if len(program) <= MaxProgram {
				break
			}
		}
		if take == 0 {
			return nil, fmt.Errorf("the chain %s is too long for a program of %d instructions", chain, MaxProgram)
		}
		all, rules, drops = append(all, program), rules[take:], drops-take
	}
}

// copies is the program that takes what the rules of a chain copy, of what a fence has passed; nil: nothing.
func (f *Filter) copies(chain string) ([]bpf.Instruction, error) {
	rules := slices.DeleteFunc(f.of(chain), func(r FilterRule) bool { return jumpsTo(r) != "" })
	rules = rules[dropsFirst(rules):]
	if !slices.ContainsFunc(f.reached(rules), func(r FilterRule) bool { return slices.ContainsFunc(r.Exprs, isCopy) }) {
		return nil, nil
	}
	return f.program(chain, rules, copied)
}

func isCopy(e expr.Any) bool {
	f, ok := e.(*Forward)
	return ok && f.Copy
}

// guarded reports whether a chain begins with a jump to the spoof guard.
func (f *Filter) guarded(chain string) bool {
	rules := f.of(chain)
	return len(rules) > 0 && jumpsTo(rules[0]) == chainGuard
}

// jumpsTo is the chain that a rule leads every frame to, to come back; "": none.
func jumpsTo(r FilterRule) string {
	if len(r.Exprs) == 1 {
		if v, ok := r.Exprs[0].(*expr.Verdict); ok && v.Kind == expr.VerdictJump {
			return v.Chain
		}
	}
	return ""
}

// dropsFirst is how many rules there are in front that only drop.
func dropsFirst(rules []FilterRule) int {
	if i := slices.IndexFunc(rules, func(r FilterRule) bool { return !onlyDrops(r) }); i >= 0 {
		return i
	}
	return len(rules)
}

func (f *Filter) of(chain string) []FilterRule {
	return slices.DeleteFunc(slices.Clone(f.Compiled), func(r FilterRule) bool { return r.Chain != chain })
}

func onlyDrops(r FilterRule) bool {
	return !slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		_, forwards := e.(*Forward)
		v, decides := e.(*expr.Verdict)
		return forwards || decides && v.Kind != expr.VerdictDrop
	})
}

// program is one program of the rules of a chain, with the chains that they lead to behind them: BPF jumps forward
// alone.
func (f *Filter) program(chain string, rules []FilterRule, say verdicts) ([]bpf.Instruction, error) {
	w := &programmer{say: say, places: make(map[string]int)}
	if slices.ContainsFunc(f.reached(rules), tellsTransport) {
		w.tellTransport()
	}
	led := []string{chain}
	for i := 0; i < len(led); i++ {
		w.place(led[i])
		if i > 0 {
			rules = f.of(led[i])
		}
		for n, r := range rules {
			if err := w.rule(r, fmt.Sprintf("behind %s %d", led[i], n)); err != nil {
				return nil, fmt.Errorf("write the rule %q of %s as a program: %w", r.Comment, led[i], err)
			}
			for _, to := range leadsTo(r) {
				if !slices.Contains(led, to) {
					led = append(led, to)
				}
			}
		}
		w.end(say.policy)
	}
	w.place(tooDeep)
	w.end(say.drop)
	return w.assembled()
}

// tooDeep is where a frame is led whose transport header is behind too many extension headers.
const tooDeep = "too deep"

// reached are the rules that a frame may meet, with those that they lead to.
func (f *Filter) reached(rules []FilterRule) []FilterRule {
	all := slices.Clone(rules)
	var led []string
	for i := 0; i < len(all); i++ {
		for _, to := range leadsTo(all[i]) {
			if !slices.Contains(led, to) {
				led, all = append(led, to), append(all, f.of(to)...)
			}
		}
	}
	return all
}

func leadsTo(r FilterRule) (to []string) {
	for _, e := range r.Exprs {
		if v, ok := e.(*expr.Verdict); ok && v.Kind == expr.VerdictGoto {
			to = append(to, v.Chain)
		}
	}
	return to
}

func tellsTransport(r FilterRule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		switch e := e.(type) {
		case *expr.Meta:
			return e.Key == expr.MetaKeyL4PROTO
		case *expr.Payload:
			return e.Base == expr.PayloadBaseTransportHeader
		case *expr.Exthdr:
			return true
		}
		return false
	})
}

// programmer writes a program. Jumps lead to places by name until all of it is written.
type programmer struct {
	say    verdicts
	code   []bpf.Instruction
	places map[string]int
}

// leap is a jump to a place.
type leap struct{ to string }

func (l leap) Assemble() (bpf.RawInstruction, error) {
	return bpf.RawInstruction{}, fmt.Errorf("a jump to %q, wherever that is", l.to)
}

func (w *programmer) add(code ...bpf.Instruction) { w.code = append(w.code, code...) }

func (w *programmer) place(name string) { w.places[name] = len(w.code) }

func (w *programmer) end(verdict uint32) { w.add(bpf.RetConstant{Val: verdict}) }

// unless leads elsewhere what does not pass the test.
func (w *programmer) unless(test bpf.JumpTest, value uint32, to string) {
	w.add(bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}, leap{to})
}

// assembled is the program with its jumps as they are.
func (w *programmer) assembled() ([]bpf.Instruction, error) {
	for i, in := range w.code {
		l, ok := in.(leap)
		if !ok {
			continue
		}
		to, known := w.places[l.to]
		if !known || to <= i {
			return nil, fmt.Errorf("%q is led to and is not behind it", l.to)
		}
		w.code[i] = bpf.Jump{Skip: uint32(to - i - 1)}
	}
	return w.code, nil
}

// operand is what an expression has loaded: something of the packet, less what a mask hides.
type operand struct {
	meta     expr.MetaKey
	at       *expr.Payload // nil: meta, or the fragment header's field
	fragment bool
	mask     []byte
}

// rule writes one rule; what does not match goes on behind it.
func (w *programmer) rule(r FilterRule, behind string) error {
	var loaded operand
	length := uint32(0) // the frame is known to have
	for _, e := range r.Exprs {
		var err error
		switch e := e.(type) {
		case *expr.Meta:
			loaded = operand{meta: e.Key}
		case *expr.Payload:
			loaded = operand{at: e}
			end := e.Offset + e.Len
			if e.Base == expr.PayloadBaseNetworkHeader {
				end += ethernet
			}
			if e.Base != expr.PayloadBaseTransportHeader && end > length {
				w.add(bpf.LoadExtension{Num: bpf.ExtLen})
				w.unless(bpf.JumpGreaterOrEqual, end, behind)
				length = end
			}
		case *expr.Exthdr:
			if e.Op != expr.ExthdrOpIpv6 || e.Type != unix.IPPROTO_FRAGMENT || e.Offset != 2 || e.Len != 2 {
				err = fmt.Errorf("a program knows of extension headers where a fragment is in its packet, and not %+v", *e)
			}
			loaded = operand{fragment: true}
		case *expr.Bitwise:
			loaded.mask = e.Mask
		case *expr.Cmp:
			err = w.compare(loaded, e, behind)
		case *expr.Range:
			err = w.within(loaded, e, behind)
		case *expr.Counter: // tc counts by itself
		case *expr.Verdict:
			err = w.verdict(e)
		case *Forward:
			if !e.Copy {
				w.end(w.say.forward)
			} else {
				w.end(w.say.copy) // what a rule does besides is to accept the frame itself
			}
			w.place(behind)
			return nil
		default:
			err = fmt.Errorf("a program has nothing like %T", e)
		}
		if err != nil {
			return err
		}
	}
	w.place(behind)
	return nil
}

func (w *programmer) verdict(v *expr.Verdict) error {
	switch v.Kind {
	case expr.VerdictDrop:
		w.end(w.say.drop)
	case expr.VerdictAccept:
		w.end(w.say.accept)
	case expr.VerdictReturn: // of a chain that was jumped to
		if w.say != looked {
			return errors.New("a program that decides does not return")
		}
		w.end(w.say.accept)
	case expr.VerdictGoto:
		w.add(leap{v.Chain})
	default:
		return fmt.Errorf("a program has no verdict %d", v.Kind)
	}
	return nil
}

// compare goes on where what was loaded is, or is not, the data. What the packet does not have is neither.
func (w *programmer) compare(loaded operand, c *expr.Cmp, behind string) error {
	if c.Op != expr.CmpOpEq && c.Op != expr.CmpOpNeq {
		return fmt.Errorf("a program has no comparison %d", c.Op)
	}
	words, err := w.words(loaded, c.Data)
	if err != nil {
		return err
	}
	if loaded.told() && c.Op == expr.CmpOpNeq {
		w.add(bpf.LoadScratch{Dst: bpf.RegA, N: transportProtocol})
		w.unless(bpf.JumpNotEqual, untold, behind)
	}
	differs := fmt.Sprintf("%s differs %d", behind, len(w.code))
	for i, word := range words {
		if err := w.load(loaded, word, behind); err != nil {
			return err
		}
		switch {
		case c.Op == expr.CmpOpEq:
			w.unless(bpf.JumpEqual, word.value, behind)
		case i < len(words)-1:
			w.unless(bpf.JumpEqual, word.value, differs)
		default:
			w.unless(bpf.JumpNotEqual, word.value, behind)
		}
	}
	w.place(differs)
	return nil
}

func (w *programmer) within(loaded operand, r *expr.Range, behind string) error {
	from, err := w.words(loaded, r.FromData)
	if err != nil {
		return err
	}
	to, err := w.words(loaded, r.ToData)
	if err != nil {
		return err
	}
	if len(from) != 1 || len(to) != 1 || loaded.told() {
		return errors.New("a program compares with a range of one word of the packet alone")
	}
	if err := w.load(loaded, from[0], behind); err != nil {
		return err
	}
	switch r.Op {
	case expr.CmpOpEq:
		w.unless(bpf.JumpGreaterOrEqual, from[0].value, behind)
		w.unless(bpf.JumpLessOrEqual, to[0].value, behind)
	case expr.CmpOpNeq:
		outside := fmt.Sprintf("%s outside %d", behind, len(w.code))
		w.unless(bpf.JumpGreaterOrEqual, from[0].value, outside)
		w.unless(bpf.JumpGreaterThan, to[0].value, behind)
		w.place(outside)
	default:
		return fmt.Errorf("a program has no range %d", r.Op)
	}
	return nil
}

// word is a part of what is compared that one load takes.
type word struct {
	offset, size uint32
	value        uint32
	mask         uint32
	further      bool // and not the first one that is compared
}

// all is the mask that hides nothing of it.
func (w word) all() uint32 { return ^uint32(0) >> (32 - 8*w.size) }

// told reports whether the operand is one that the kernel tells of sound IP headers alone.
func (o operand) told() bool { return o.at == nil && !o.fragment && o.meta == expr.MetaKeyL4PROTO }

// words cuts data into loads. Parts that the mask hides altogether are left out.
func (w *programmer) words(o operand, data []byte) ([]word, error) {
	if o.at != nil && int(o.at.Len) != len(data) || o.mask != nil && len(o.mask) != len(data) {
		return nil, fmt.Errorf("%d bytes are compared with others", len(data))
	}
	var all []word
	for at := 0; at < len(data); {
		size := 4
		for at+size > len(data) {
			size /= 2
		}
		part := word{offset: uint32(at), size: uint32(size), value: number(data[at : at+size])}
		part.mask = part.all()
		if o.mask != nil {
			part.mask = number(o.mask[at : at+size])
		}
		part.further = len(all) > 0
		if part.mask != 0 {
			all = append(all, part)
		}
		at += size
	}
	if o.at == nil && len(all) != 1 {
		return nil, fmt.Errorf("meta %d is compared with %d bytes", o.meta, len(data))
	}
	return all, nil
}

func number(b []byte) uint32 {
	var four [4]byte
	copy(four[4-len(b):], b)
	return binary.BigEndian.Uint32(four[:])
}

// load puts a word into the accumulator. Of the headers before the transport's it is known that they are there.
func (w *programmer) load(o operand, part word, behind string) error {
	switch {
	case o.fragment:
		w.add(bpf.LoadScratch{Dst: bpf.RegA, N: fragmentField})
		w.unless(bpf.JumpNotEqual, 0, behind)
		w.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: hasFragment - 1})
	case o.at == nil:
		if err := w.loadMeta(o.meta); err != nil {
			return err
		}
	case o.at.Base == expr.PayloadBaseLLHeader:
		w.add(bpf.LoadAbsolute{Off: o.at.Offset + part.offset, Size: int(part.size)})
	case o.at.Base == expr.PayloadBaseNetworkHeader:
		w.add(bpf.LoadAbsolute{Off: ethernet + o.at.Offset + part.offset, Size: int(part.size)})
	case o.at.Base == expr.PayloadBaseTransportHeader:
		if !part.further {
			w.add(bpf.LoadScratch{Dst: bpf.RegA, N: transportHeader})
			w.unless(bpf.JumpNotEqual, 0, behind)
			w.frameHas(o.at.Offset+o.at.Len, behind)
			w.add(bpf.LoadScratch{Dst: bpf.RegX, N: transportHeader})
		}
		w.add(bpf.LoadIndirect{Off: o.at.Offset + part.offset, Size: int(part.size)})
	default:
		return fmt.Errorf("a program loads nothing from the base %d", o.at.Base)
	}
	if part.mask != part.all() {
		w.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: part.mask})
	}
	return nil
}

func (w *programmer) loadMeta(key expr.MetaKey) error {
	switch key {
	case expr.MetaKeyPROTOCOL:
		w.add(bpf.LoadExtension{Num: bpf.ExtProto})
	case expr.MetaKeyPKTTYPE:
		w.add(bpf.LoadExtension{Num: bpf.ExtType})
	case expr.MetaKeyL4PROTO:
		w.add(bpf.LoadScratch{Dst: bpf.RegA, N: transportProtocol})
	default:
		return fmt.Errorf("a program loads no meta %d", key)
	}
	return nil
}

// frameHas goes on where the frame has so many bytes behind an offset that is in the accumulator.
func (w *programmer) frameHas(bytes uint32, behind string) {
	w.add(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: bytes}, bpf.TAX{}, bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1}, leap{behind})
}

// tellTransport finds the transport protocol and its header as nftables does (nft_set_pktinfo_ipv4_validate,
// nft_set_pktinfo_ipv6_validate): none where IP's header is not sound, no header in a fragment other than the first.
func (w *programmer) tellTransport() {
	const done, ipv6 = "the rules", "IPv6"
	w.add(
		bpf.LoadConstant{Dst: bpf.RegA, Val: untold}, bpf.StoreScratch{Src: bpf.RegA, N: transportProtocol},
		bpf.LoadConstant{Dst: bpf.RegA, Val: 0}, bpf.StoreScratch{Src: bpf.RegA, N: transportHeader},
		bpf.StoreScratch{Src: bpf.RegA, N: fragmentField},
		bpf.LoadExtension{Num: bpf.ExtProto})
	w.unless(bpf.JumpEqual, unix.ETH_P_IP, ipv6)
	w.ipv4Transport(done)
	w.place(ipv6)
	w.unless(bpf.JumpEqual, unix.ETH_P_IPV6, done)
	w.ipv6Transport(done)
	w.place(done)
}

// ipv4Transport is of a header by RFC 791: version and length at 0, the packet's length at 2, fragments at 6,
// protocol at 9.
func (w *programmer) ipv4Transport(done string) {
	const ip = ethernet
	w.add(bpf.LoadExtension{Num: bpf.ExtLen})
	w.unless(bpf.JumpGreaterOrEqual, ip+20, done)
	w.add(bpf.LoadAbsolute{Off: ip, Size: 1})
	w.unless(bpf.JumpGreaterOrEqual, 4<<4|5, done)
	w.unless(bpf.JumpLessThan, 5<<4, done)
	w.add(bpf.LoadMemShift{Off: ip}, bpf.LoadAbsolute{Off: ip + 2, Size: 2})
	// A packet of more than 64 KiB, of a link with such (BIG TCP), says 0 (iph_totlen, include/linux/ip.h).
	w.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 4}, bpf.LoadExtension{Num: bpf.ExtLen})
	w.unless(bpf.JumpGreaterThan, ip+0xffff, done)
	w.add(bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: ip})
	w.add(bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1}, leap{done})
	w.frameHas(ip, done)
	w.add(
		bpf.LoadAbsolute{Off: ip + 9, Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: transportProtocol},
		bpf.LoadAbsolute{Off: ip + 6, Size: 2})
	w.unless(bpf.JumpBitsNotSet, 0x1fff, done)
	w.add(
		bpf.LoadMemShift{Off: ip}, bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: ip},
		bpf.StoreScratch{Src: bpf.RegA, N: transportHeader},
		leap{done})
}

// ipv6Transport is of headers by RFC 8200: the version at 0, the payload's length at 4, the next header at 6. An
// extension header has its next header at 0 and its length at 1.
func (w *programmer) ipv6Transport(done string) {
	const ip = ethernet
	w.add(bpf.LoadExtension{Num: bpf.ExtLen})
	w.unless(bpf.JumpGreaterOrEqual, ip+40, done)
	w.add(bpf.LoadAbsolute{Off: ip, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	w.unless(bpf.JumpEqual, 6<<4, done)
	w.add(bpf.LoadAbsolute{Off: ip + 4, Size: 2})
	w.frameHas(ip+40, done)
	w.add(bpf.LoadConstant{Dst: bpf.RegX, Val: ip + 40}, bpf.LoadAbsolute{Off: ip + 6, Size: 1})
	for i := range maxExtensions + 1 {
		w.extension(fmt.Sprintf("extension %d ", i), done)
	}
	w.add(leap{tooDeep})
}

// extensions are headers of IPv6 that another one is behind.
var extensions = []uint32{
	unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT, unix.IPPROTO_AH,
}

// extension goes behind an extension header. The accumulator has what the next header is, X where it begins.
func (w *programmer) extension(here, done string) {
	optional, fragment, authentication, next := here+"options", here+"fragment", here+"authentication", here+"done"
	to := map[uint32]string{unix.IPPROTO_FRAGMENT: fragment, unix.IPPROTO_AH: authentication}
	for _, header := range extensions {
		w.unless(bpf.JumpNotEqual, header, cmp.Or(to[header], optional))
	}
	w.add(
		bpf.StoreScratch{Src: bpf.RegA, N: transportProtocol},
		bpf.StoreScratch{Src: bpf.RegX, N: transportHeader}, leap{done})

	// Lengths are in units of 8 bytes and do not count the first (4.3), those of authentication in units of 4 and do
	// not count the first two (RFC 4302, 2.2).
	w.place(optional)
	w.hasExtension(done)
	w.add(
		bpf.LoadIndirect{Off: 1, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3}, leap{next})

	w.place(authentication)
	w.hasExtension(done)
	w.add(
		bpf.LoadIndirect{Off: 1, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 2}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2}, leap{next})

	// A fragment other than the first has the protocol's number, unless that is another extension's, and no header.
	// nftables looks at the first fragment header that there is (ipv6_find_hdr with a target).
	w.place(fragment)
	w.hasExtension(done)
	w.add(
		bpf.LoadScratch{Dst: bpf.RegA, N: fragmentField}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
		bpf.LoadIndirect{Off: 2, Size: 2}, bpf.ALUOpConstant{Op: bpf.ALUOpOr, Val: hasFragment},
		bpf.StoreScratch{Src: bpf.RegA, N: fragmentField},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0xfff8, SkipTrue: 2},
		bpf.LoadConstant{Dst: bpf.RegA, Val: 8}, leap{next},
		bpf.LoadScratch{Dst: bpf.RegA, N: nextHeader})
	for _, header := range extensions {
		w.unless(bpf.JumpNotEqual, header, done)
	}
	w.add(bpf.StoreScratch{Src: bpf.RegA, N: transportProtocol}, leap{done})

	w.place(next)
	w.add(bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: nextHeader})
}

// hasExtension reads what comes next, of an extension header that is there.
func (w *programmer) hasExtension(done string) {
	w.add(bpf.StoreScratch{Src: bpf.RegX, N: headerOffset}, bpf.TXA{})
	w.frameHas(8, done) // the least that one has
	w.add(
		bpf.LoadScratch{Dst: bpf.RegX, N: headerOffset},
		bpf.LoadIndirect{Off: 0, Size: 1}, bpf.StoreScratch{Src: bpf.RegA, N: nextHeader})
}
