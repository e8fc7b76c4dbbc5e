package trace

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	dhcptrace "github.com/podnic/podnic/dhcp/trace"
)

func TestTraceLines(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.Local)
	var b strings.Builder
	for _, f := range []dhcptrace.Traced{
		{At: at, FromGuest: true, Peer: dhcptrace.PeerAll, Protocol: dhcptrace.ProtocolDHCP, Message: "REQUEST", Transaction: "c0ffee01", State: "init-reboot",
			Answer: "NAK", Why: "10.9.9.9 is not the address of this pod", Details: []dhcptrace.Detail{{Name: "wants", Value: "10.9.9.9", Option: 50}}},
		{At: at, Peer: dhcptrace.PeerServer, Protocol: dhcptrace.ProtocolDHCP, Message: "NAK", Transaction: "c0ffee01",
			Details: []dhcptrace.Detail{{Name: "says", Value: "10.9.9.9 is not the address of this pod", Option: 56}, {Name: "rapid commit", Option: 80}}},
		{At: at, FromGuest: true, Peer: dhcptrace.PeerAll, VLAN: 5, Protocol: dhcptrace.ProtocolDHCP, Message: "DISCOVER", Transaction: "c0ffee01", Why: "it is cut off"},
		{At: at, FromGuest: true, Peer: dhcptrace.PeerAll, Protocol: dhcptrace.ProtocolARP, Message: "who has 10.244.1.1? tell 10.244.1.5", Why: "left to the pod network"},
		{At: at, Peer: dhcptrace.PeerNetwork, Protocol: dhcptrace.ProtocolND, Message: "NS", Details: []dhcptrace.Detail{{Name: "who has", Value: "fe80::2"}}},
		{At: at, Peer: dhcptrace.PeerServer, Protocol: dhcptrace.ProtocolDHCP, Message: "no OFFER to DISCOVER", Transaction: "c0ffee01", Why: "nobody serves eth0"},
		{At: at, FromGuest: true, Peer: dhcptrace.PeerServer, Protocol: dhcptrace.ProtocolDHCP, Message: "INFORM", Transaction: "c0ffee01",
			Details: []dhcptrace.Detail{{Name: "hostname", Value: strings.Repeat("ü", 100)}}},
	} {
		line := Line(Frame{Traced: f}, 120)
		if utf8.RuneCountInString(line) > 120 {
			t.Errorf("more than 120 columns: %s", line)
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(Summary{Took: 1500 * time.Millisecond, Frames: map[string]int{dhcptrace.ProtocolDHCP: 3, dhcptrace.ProtocolND: 1}, Total: 4,
		Unanswered: 1, Lost: 2, Ended: "interrupted"}.String() + "\n")
	const want = `03:04:05.678901  guest → all      DHCP REQUEST c0ffee01 (init-reboot), wants 10.9.9.9
03:04:05.678901  guest ← server   DHCP NAK c0ffee01, says 10.9.9.9 is not the address of this pod, rapid commit
03:04:05.678901  guest → all      DHCP DISCOVER c0ffee01, VLAN 5, not answered: it is cut off
03:04:05.678901  guest → all      ARP  who has 10.244.1.1? tell 10.244.1.5, left to the pod network
03:04:05.678901  guest ← network  ND   NS who has fe80::2
03:04:05.678901  guest ← server   DHCP no OFFER to DISCOVER c0ffee01, nobody serves eth0
03:04:05.678901  guest → server   DHCP INFORM c0ffee01, hostname üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüü…
4 frames in 1.5 s (3 DHCP, 1 ND), 1 unanswered, 2 frames were lost: they came faster than they could be read; interrupted
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestLinesOfSeveralInterfacesNameThem: with one, a line has no room for what everybody knows.
func TestLinesOfSeveralInterfacesNameThem(t *testing.T) {
	f := Frame{Interface: "net1", Traced: dhcptrace.Traced{
		At: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.Local), Peer: dhcptrace.PeerNetwork, Protocol: dhcptrace.ProtocolARP, Message: "x",
	}}
	for named, want := range map[bool]string{
		false: "03:04:05.678901  guest ← network  ARP  x",
		true:  "03:04:05.678901  net1   guest ← network  ARP  x",
	} {
		f.named = named
		if got := Line(f, 120); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
