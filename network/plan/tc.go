package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// What follows is traffic control's (tc's), which redirects frames where nftables cannot.

// QdiscClsact is the kind of qdisc that has filters for what a link receives and for what it sends.
const QdiscClsact = "clsact"

// Qdisc is what a link has for tc's filters to hang on, and these. A link has one at most, of the kind clsact or
// ingress. One that other filters than ours hang on is somebody else's too.
type Qdisc struct {
	Link Role
	Kind string
	// Filters are in the order in which they are put: those at egress first, so that the pod's stack is silent before the
	// guest hears. Of one hook they are in the order in which they are asked.
	Filters []TCFilter

	Dropped uint64 // frames that filters dropped; read, never compared
}

// Hooks of a qdisc, where filters see frames.
const (
	HookIngress = "ingress"
	HookEgress  = "egress"
)

// TCFilter is a tc filter.
type TCFilter struct {
	Hook     string
	Priority uint16 // the lowest is asked first
	Handle   uint32
	Kind     string // "bpf" is ours

	// Program decides by itself, by the numbers of FrameDropped and so on, or, with Redirect, what is redirected.
	Program   []bpf.RawInstruction
	Direct    bool
	Redirect  Role   // the link that sends what the filter takes; of a link that the wiring has not, with its index
	Copy      bool   // the link sends a copy, and the stack has the frame
	Uncounted bool   // the link sends a copy, and the frame ends here; so one that it cannot send is none that the qdisc dropped
	Unknown   string // what else it does, in words; no filter of ours does

	Frames uint64 // that were redirected; read, never compared
}

// redirectsNowhere is what the kernel says of a filter whose link is gone.
const redirectsNowhere Role = "link 0"

// ours is the handle of all filters of ours, and their priorities begin there: "pn".
const ours = 0x706e

// Ours reports whether podnic made the filter.
func (f TCFilter) Ours() bool { return f.Handle == ours && f.Priority >= ours && f.Kind == "bpf" }

// String renders the filter, whether we made it or the kernel told it, in the manner of tc(8).
func (f TCFilter) String() string {
	text := fmt.Sprintf("%s pref %d %s handle %#x", f.Hook, f.Priority, f.Kind, f.Handle)
	if f.Direct {
		text += " direct-action"
	}
	if len(f.Program) > 0 {
		text += fmt.Sprintf(" program %d:%x", len(f.Program), digest(f.Program))
	}
	if f.Redirect != "" {
		verb := "redirect"
		switch {
		case f.Copy:
			verb = "mirror"
		case f.Uncounted:
			verb = "mirror and end"
		}
		text += fmt.Sprintf(" %s to %s", verb, f.Redirect)
	}
	if f.Unknown != "" {
		text += " " + f.Unknown
	}
	return text
}

// digest tells programs apart.
func digest(program []bpf.RawInstruction) []byte {
	sum := sha256.New()
	for _, in := range program {
		var b [8]byte
		binary.BigEndian.PutUint16(b[:], in.Op)
		b[2], b[3] = in.Jt, in.Jf
		binary.BigEndian.PutUint32(b[4:], in.K)
		sum.Write(b[:]) //nolint:errcheck // a hash takes everything
	}
	return sum.Sum(nil)[:4]
}

// Same compares what the filters do.
func (f TCFilter) Same(o TCFilter) bool { return f.String() == o.String() }

// samePlace reports whether one takes the other's place when it is put.
func (f TCFilter) samePlace(o TCFilter) bool {
	return f.Hook == o.Hook && f.Priority == o.Priority && f.Handle == o.Handle && f.Kind == o.Kind
}

func compareTCFilters(a, b TCFilter) int {
	return cmp.Or(cmp.Compare(a.Hook, b.Hook), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Handle, b.Handle))
}

// Foreign are the filters on it that are not ours.
func (q *Qdisc) Foreign() []TCFilter {
	return slices.DeleteFunc(slices.Clone(q.Filters), TCFilter.Ours)
}

// Ours reports whether podnic made the qdisc: filters of ours hang on it.
func (q *Qdisc) Ours() bool {
	return q.Kind == QdiscClsact && slices.ContainsFunc(q.Filters, TCFilter.Ours)
}

func (q *Qdisc) clone() Qdisc {
	c := *q
	c.Filters = slices.Clone(q.Filters) // programs are never changed in place
	return c
}

// everything is the program that takes every frame.
var everything = []bpf.Instruction{bpf.RetConstant{Val: frameTaken}}

// redirectingQdiscs do what the rules of a redirect's chains say, whatever those names are: what NIC and tap receive,
// and what the NIC sends.
func redirectingQdiscs(f *Filter, fromNetwork, fromGuest, toNetwork string) ([]Qdisc, error) {
	nic, tap := Qdisc{Link: NIC, Kind: QdiscClsact}, Qdisc{Link: Tap, Kind: QdiscClsact}
	err := errors.Join(
		nic.fence(f, HookEgress, toNetwork),
		nic.receive(f, fromNetwork, Tap),
		tap.receive(f, fromGuest, NIC))
	return []Qdisc{nic, tap}, err
}

// receive redirects what a link receives to another, but for what the rules of a chain drop, or leave to the stack. Where
// a guard is in front of them, the frames that the qdisc counts as dropped are the guard's.
func (q *Qdisc) receive(f *Filter, chain string, to Role) error {
	if err := q.fence(f, HookIngress, chain); err != nil {
		return err
	}
	copies, err := f.copies(chain)
	if err == nil && copies != nil {
		err = q.add(HookIngress, copies, TCFilter{Redirect: to, Copy: true})
	}
	return errors.Join(err, q.add(HookIngress, everything, TCFilter{Redirect: to, Uncounted: f.guarded(chain)}))
}

// fence hangs the rules of a chain on a hook.
func (q *Qdisc) fence(f *Filter, hook, chain string) error {
	programs, err := f.programs(chain)
	for _, p := range programs {
		err = errors.Join(err, q.add(hook, p, TCFilter{Direct: true}))
	}
	return err
}

// add hangs a filter of ours on a hook, behind the others.
func (q *Qdisc) add(hook string, program []bpf.Instruction, f TCFilter) (err error) {
	f.Hook, f.Handle, f.Kind, f.Priority = hook, ours, "bpf", ours
	for _, other := range q.Filters {
		if other.Hook == hook {
			f.Priority++
		}
	}
	if f.Program, err = bpf.Assemble(program); err != nil {
		return fmt.Errorf("assemble a program of %d instructions: %w", len(program), err)
	}
	q.Filters = append(q.Filters, f)
	return nil
}
