package plan

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// RedirectByTC is what redirects frames where the kernel's nftables cannot: qdiscs of the pod's link and of the tap,
// whose filters say what the chains of [RedirectFilter] would. nftables sees nothing of what tc redirects, so all of
// the fence is there. The filter that is left has connections of the pod fail at once; a kernel without nftables does
// without.
//
// No mark tells the guest's frames from those of the pod's own stack. What a stack sends has the type PACKET_HOST,
// which is 0, and what a link received has it for the link's own MAC alone (eth_type_trans). No frame of the guest
// for somebody else is to the tap's.
func RedirectByTC(original *Snapshot, o Options) (*Filter, []Qdisc, error) {
	o.TC = true
	id, _ := Identify(original, o)
	served := id.V4.Served()
	table := FilterTable(o.Interface)
	f := &redirectFilter{
		Filter: &Filter{Table: table, Family: redirectFamily(o.Interface, o.Tap)},
		nic:    o.Interface, tap: o.Tap,
		server:  netip.PrefixFrom(identity.ServerLinkLocal, 32),
		listens: served && o.Socket == SocketUDP,
	}
	f.toGuest(id, o.IPv6For(original), original.HeardRouters())
	if o.Guarded() {
		f.guard(chainFromGuest, nil, original)
	}
	f.fromGuest(id, o.IPv6For(original), o.Socket, original.Blocked())
	f.accept(chainToNetwork, "the guest's frames",
		[]expr.Any{
			&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.PACKET_HOST}},
		})
	f.keepSilent(served)
	qdiscs, err := redirectingQdiscs(f.Filter, chainFromNetwork, chainFromGuest, chainToNetwork)
	if err != nil {
		return nil, nil, err
	}
	f.Filter = &Filter{Table: table, Family: RedirectTCFamily, Comment: factsOfTC(original, o).String()}
	f.keepIP(id)
	return f.done(), qdiscs, nil
}

// factsOfTC are what the tap's alias keeps.
func factsOfTC(original *Snapshot, o Options) RedirectFacts {
	nic := original.Link(NIC)
	return RedirectFacts{AllMulticast: nic.AllMulti, LRO: nic.LRO, Guard: o.Guarded()}
}

// fencesAs reports whether what is wired keeps what it would by these options; where tc does, of what the pod network
// sends, which is there without the tap too.
func fencesAs(b Binding, original, wired *Snapshot, o Options) bool {
	if !ByTC(b) {
		return wired.Filter != nil && b.Filter(original, o).Same(wired.Filter)
	}
	have := wired.Qdisc(NIC)
	_, want, err := RedirectByTC(original, o)
	return err == nil && have != nil && !slices.ContainsFunc(want[0].Filters, func(f TCFilter) bool {
		return f.Direct && !slices.ContainsFunc(have.Filters, f.Same)
	})
}

// RedirectTCFamily is where the filter is of a redirect by tc.
var RedirectTCFamily = &FilterFamily{Number: unix.NFPROTO_INET, prefix: "inet ", Chains: slices.DeleteFunc(
	slices.Clone(RedirectFamily.Chains), func(c FilterChain) bool { return c.Name != chainPodIP })}

// CheckTC refuses an interface of which tc's filters cannot say all that has to be said.
func CheckTC(original *Snapshot, o Options) error {
	if _, _, err := RedirectByTC(original, o); err != nil {
		return Refuse("the pod has more permanent neighbours and routes than tc's filters can hold (%w): give it fewer", err)
	}
	return nil
}

// ByTC reports whether a binding redirects by tc.
func ByTC(b Binding) bool { return b == Binding(redirectBinding{tc: true}) }

// ByTC are the names where tc redirects.
func (n Names) ByTC() Names {
	n.Binding = redirectBinding{tc: true}
	return n
}
