package network

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// redirected is a pod whose interface is redirected to a tap, by the filter alone.
type redirected struct {
	*testPod
	nft    *rtnl.NFT
	filter *plan.Filter
}

// redirectFilterOf is the filter that the pod's interface wants as it is.
func (p *testPod) redirectFilterOf(o plan.Options, facts plan.RedirectFacts) *plan.Filter {
	p.t.Helper()
	p.settle()
	s, err := open(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.close()
	o.Interface, o.Binding = "eth0", plan.BindingRedirect
	o = must(o.Normal())
	all, err := s.rtnl.Links()
	if err != nil {
		p.t.Fatal(err)
	}
	index := 0
	for _, l := range all {
		if l.Name == "eth0" {
			index = l.Index
		}
	}
	original, err := s.rtnl.Read(all, index, o.Names())
	if err != nil {
		p.t.Fatal(err)
	}
	return plan.RedirectFilter(original, o, facts)
}

// nftables opens what the filter is put in place with.
func (p *testPod) nftables() *rtnl.NFT {
	p.t.Helper()
	ns, err := OpenNamespace(p.request().Namespace)
	if err != nil {
		p.t.Fatal(err)
	}
	links, err := rtnl.Open(ns)
	if err != nil {
		p.t.Fatal(err)
	}
	n := &rtnl.NFT{NS: ns, Links: links}
	p.t.Cleanup(func() { n.Close(); links.Close(); ns.Close() })
	return n
}

// addTap makes the tap of a redirect.
func (p *testPod) addTap() {
	p.t.Helper()
	p.ip("tuntap add dev tap0 mode tap vnet_hdr")
	p.ip("link set tap0 addrgenmode none")
	p.ip("link set tap0 up")
}

func (p *testPod) redirect(o plan.Options, facts plan.RedirectFacts) *redirected {
	p.t.Helper()
	p.addTap()
	r := &redirected{p, p.nftables(), p.redirectFilterOf(o, facts)}
	if err := r.nft.Put(r.filter, false); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// redirects are the filters that a redirect may have: by the server's socket, and on kernels with and without egress hooks.
var redirects = map[string]struct {
	options plan.Options
	facts   plan.RedirectFacts
}{
	"packet":            {plan.Options{}, plan.RedirectFacts{Mark: 0x1badcafe}},
	"udp":               {plan.Options{Socket: plan.SocketUDP}, plan.RedirectFacts{Mark: 0x1badcafe, AllMulticast: true, LRO: true}},
	"packet, no egress": {plan.Options{}, plan.RedirectFacts{}},
	"udp, no egress":    {plan.Options{Socket: plan.SocketUDP}, plan.RedirectFacts{AllMulticast: true}},
}

// TestRedirectFilterIsReadBack puts the filter in place, has it read by another connection, which knows nothing of it, and
// by nft(8), which prints it, and reads what it printed.
func TestRedirectFilterIsReadBack(t *testing.T) {
	for name, c := range redirects {
		for _, shape := range []string{"bridge", "aws", "dual stack", "no address", "routes that block", "much of everything"} {
			t.Run(name+", "+shape, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, shapes[shape]...).redirect(c.options, c.facts)
				read, err := p.nftables().Read(plan.RedirectFamily, "podnic-eth0")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(p.filter.Rules, read.Rules); diff != "" || !p.filter.Same(read) {
					t.Errorf("%s %s: %s", p.filter.Comment, read.Comment, diff)
				}
				if facts, found := plan.RedirectFactsOf(read); !found || facts != c.facts {
					t.Errorf("the facts are %v", facts)
				}
				p.nftReadsWhatItPrints()
				again, err := p.nftables().Read(plan.RedirectFamily, "podnic-eth0")
				if err != nil || again == nil || again.Comment != p.filter.Comment {
					t.Errorf("after nft has read what it printed: %v: %v", err, again)
				}
				if err := p.nft.Remove(p.filter.Family, p.filter.Table); err != nil {
					t.Fatal(err)
				}
				if out, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || out != "" {
					t.Errorf("left: %v: %s", err, out)
				}
				if err := p.nft.Remove(p.filter.Family, p.filter.Table); err != nil {
					t.Errorf("to remove it again: %v", err)
				}
				if left, err := p.nft.Read(plan.RedirectFamily, "podnic-eth0"); left != nil || err != nil {
					t.Errorf("%v: %v", err, left)
				}
			})
		}
	}
}
