package dhcp

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/test/podtest"
	"go.uber.org/zap/zaptest"
)

// newGuest6 has a pod's bridge with the tap of a guest, and serves IPv6 alone on it.
func newGuest6(t *testing.T, id identity.Identity, o Settings) *guest {
	t.Helper()
	needRoot(t)
	g := &guest{pod: newNetns(t), inside: newNetns(t), events: make(chan Event, 1000)}
	tap := g.pod.tap(t, "tap0")
	g.pod.ip(t, "link add eth0-br type bridge", "link set eth0-br addrgenmode none", "link set eth0-br up",
		"link set tap0 addrgenmode none", "link set tap0 master eth0-br", "link set tap0 up")
	nic := g.inside.tap(t, "eth0")
	g.inside.ip(t, "link set eth0 address "+guestMAC.String())
	pump(t, tap, nic)
	var err error
	g.server6, err = NewServer6(Config6{
		Offer: mustOffer6(t, id, o), Client: guestMAC, ServerMAC: serverMAC, Link: "tap0", InNamespace: g.pod.do,
		Observe: func(e Event) { g.events <- e }, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, g.server6)
	return g
}

// has waits until what a command says matches all of some expressions, and none of those that begin with an exclamation
// mark. The kernel gives notice of addresses and routes, but not of what a client makes of a lease.
func (g *guest) has(t *testing.T, command string, want ...string) {
	t.Helper()
	var text string
	for deadline := time.Now().Add(podtest.Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text, _ = g.inside.output(strings.Fields(command)...)
		if !slices.ContainsFunc(want, func(w string) bool {
			expression, absent := strings.CutPrefix(w, "!")
			return regexp.MustCompile("(?m)"+expression).MatchString(text) == absent
		}) {
			return
		}
	}
	t.Fatalf("%s shows\n%s\nwant %q", command, text, want)
}

// TestKernelAloneHasRoutesAndNoAddress: what advertisements make of a guest without a client. A made-up address would not be
// the pod's.
func TestKernelAloneHasRoutesAndNoAddress(t *testing.T) {
	t.Parallel()
	g := newGuest6(t, ciliumPod6(), Settings{})
	g.inside.ip(t, "link set eth0 up")
	g.has(t, "ip -6 route show", `^default via fe80::706f:646e:6963:1 dev eth0 `)
	g.has(t, "ip -6 -o address show dev eth0", `fe80::`, `!scope global`)
	// The router is where its advertisement says, and answers when it is asked.
	g.inside.ip(t, "neighbour flush dev eth0", "route add 2001:db8:99::/64 via fe80::706f:646e:6963:1 dev eth0")
	g.inside.output("ping", "-6", "-c1", "-W1", "2001:db8:99::1")
	g.has(t, "ip -6 neighbour show", `^fe80::706f:646e:6963:1 dev eth0 lladdr 02:00:00:00:00:99 router`)
}
