package run

import (
	"encoding/json"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestOnMacvlanIsThePod boots a guest in a pod of the real macvlan plugin, which podnic redirects without being told
// to. Two other pods reach it: by IPv4, and by asking for an IPv6 neighbour whom the guest alone can be. It sees the carrier
// of the macvlan, which is its parent's.
func TestGuestOnMacvlanIsThePod(t *testing.T) {
	s := newSite(t, pod.Macvlan)
	third := podtest.Pod(t, s.Node, pod.Spec{Name: "third", Network: pod.Macvlan})
	file, path := s.domain("podnic.carrier")
	console := podtest.Console(t, path)
	a := s.run("--domain", file)
	s.Ready()
	podtest.Wait(t, console, "guest: ready")
	if binding := s.binding(); binding != "redirect" {
		t.Errorf("the binding is %q", binding)
	}
	// Whom nobody asked for yet is heard of by multicast alone, to a group that the pod's own stack is not in.
	neighbour := netip.MustParseAddr("2001:db8::77")
	if out, err := s.client().Run(t.Context(), "ip address add "+neighbour.String()+"/64 dev eth0"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, other := range map[string]*pod.Pod{"other": s.other, "third": third} {
		client := guest.Client{Address: s.Pod.Address.Addr(), Dial: other.DialContext}
		if _, err := client.Hello(t.Context()); err != nil {
			t.Errorf("from the pod %s: %v", name, err)
		}
		if out, err := s.client().Run(t.Context(), "ping -c 1 -W 90 "+other.Address.Addr().String()); err != nil {
			t.Errorf("from the guest to the pod %s: %v\n%s", name, err, out)
		}
		if mac := podtest.Solicit(t, other, neighbour); !slices.Equal(mac, s.MAC) {
			t.Errorf("the pod %s hears that %s is at %s, want %s", name, neighbour, mac, s.MAC)
		}
	}
	s.In(s.Node.Namespace, "ip link set gateway down")
	podtest.Wait(t, console, "guest: carrier 0")
	s.In(s.Node.Namespace, "ip link set gateway up")
	waitTimes(t, console, "guest: carrier 1", 2)
	a.Signal(syscall.SIGTERM)
	a.Exits(0)
	s.AsBefore()
}

// binding is what status says of how the interface is wired.
func (s *site) binding() string {
	s.T.Helper()
	var r struct{ Interfaces []struct{ Binding string } }
	if err := json.Unmarshal([]byte(s.Must("status", "-o", "json")), &r); err != nil || len(r.Interfaces) != 1 {
		s.T.Fatalf("status: %v: %+v", err, r)
	}
	return r.Interfaces[0].Binding
}
