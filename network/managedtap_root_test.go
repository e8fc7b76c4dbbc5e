package network

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
)

// kubevirtWiring are the changes by which KubeVirt wires eth0, the tap last. Its placeholder is a dummy link, which not every
// kernel has; a bridge without ports is as good.
var kubevirtWiring = []string{
	"link set eth0 down",
	"link set eth0 name eth0-nic",
	"address flush dev eth0-nic",
	"link add k6t-eth0 type bridge",
	"link set k6t-eth0 up",
	"link set eth0-nic master k6t-eth0 up",
	"link add eth0 address 0a:58:0a:f4:01:05 mtu 1400 type bridge",
	"address add 10.244.1.5/24 dev eth0",
	"tuntap add tap0 mode tap user 107 vnet_hdr",
	"link set tap0 master k6t-eth0 up",
}

// TestManagedTapIsAwaitedAndKnown records an interface, has it wired as KubeVirt does while a wait is on, and looks at it
// with the record and without.
func TestManagedTapIsAwaitedAndKnown(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, "node:link set host0 up", "link set eth0 mtu 1400 up", "address add 10.244.1.5/24 dev eth0", "route add default via 10.244.1.1")
	before, err := RecordManaged(p.requestFor("eth0"))
	if err != nil {
		t.Fatal(err)
	}
	if before.Wired || before.Names.Interface != "eth0" {
		t.Fatalf("seen before: %+v", before)
	}
	type awaited struct {
		*Inspection
		error
	}
	found := make(chan awaited, 1)
	go func() {
		state, err := AwaitWired(t.Context(), p.requestFor("eth0"))
		found <- awaited{state, err}
	}()
	for _, command := range kubevirtWiring {
		select {
		case a := <-found:
			t.Fatalf("before %q it is taken for wired: %v", command, a.error)
		default:
		}
		p.ip(command)
		// A sidecar that starts at any moment must not take the placeholder for the pod's interface.
		if _, err := RecordManaged(p.requestFor("eth0")); err != nil && !IsRefusal(err) {
			t.Fatal(err)
		}
	}
	a := <-found
	if a.error != nil {
		t.Fatal(a.error)
	}
	names := plan.ManagedTapNames("eth0")
	if a.Names != names || a.Options.Binding != plan.BindingManagedTap || a.Options.Socket != plan.SocketUDP || a.Options.Queues != 1 {
		t.Errorf("seen: %+v, %+v", a.Names, a.Options)
	}
	for _, role := range []plan.Role{plan.NIC, plan.Bridge, plan.Tap, plan.Placeholder} {
		if link := a.Current.Link(role); link == nil || link.Name != names.Of(role) {
			t.Errorf("the link of the role %s is %+v", role, link)
		}
	}
	if diff := cmp.Diff(asJSON(t, before.Original), asJSON(t, a.Original)); diff != "" {
		t.Errorf("the original is another with the record:\n%s", diff)
	}

	if again, err := RecordManaged(p.requestFor("eth0")); err != nil || !again.Wired {
		t.Errorf("recorded again: %+v, %v", again, err)
	}
	p.refused(p.tryPrepare, "eth0", "KubeVirt", "podnic sidecar")
	p.refused(p.tryRestore, p.recordPath(), "KubeVirt")

	if err := os.Remove(p.recordPath()); err != nil {
		t.Fatal(err)
	}
	lost, err := Inspect(p.request())
	if err != nil {
		t.Fatal(err)
	}
	id, _ := lost.Identity()
	if id.MAC.String() != "0a:58:0a:f4:01:05" || id.MTU != 1400 || id.V4.First().Prefix.String() != "10.244.1.5/24" || id.V4.Gateway.IsValid() {
		t.Errorf("without a record the guest is %+v", id)
	}
	if warnings := strings.Join(lost.Warnings, "\n"); !strings.Contains(warnings, "routes") || !strings.Contains(warnings, "lost") {
		t.Errorf("nothing says what is lost: %q", warnings)
	}
}

func (p *testPod) requestFor(iface string) Request {
	req := p.request()
	req.Options.Interface = iface
	return req
}

// asJSON is a snapshot as the record has it.
func asJSON(t *testing.T, s *plan.Snapshot) string {
	t.Helper()
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWaitForAWiringEnds ends a wait for what never comes.
func TestWaitForAWiringEnds(t *testing.T) {
	p := newTestPod(t, "link set eth0 up", "address add 10.244.1.5/24 dev eth0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := AwaitWired(ctx, p.requestFor("eth0"))
		ended <- err
	}()
	p.ip("link add other type bridge") // wakes it
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ends with %v", err)
	}
}

// TestPodInterfacesAreListed tells what a pod network made from what was made of it.
func TestPodInterfacesAreListed(t *testing.T) {
	p := newTestPod(t, "link set eth0 up", "link add net1 type veth peer name port1", "link add br0 type bridge",
		"link set port1 master br0", "tuntap add tap7 mode tap")
	names, err := PodInterfaces(p.request())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"eth0", "net1"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestManagedTapNames are those of KubeVirt's pkg/network/link/names_test.go.
func TestManagedTapNames(t *testing.T) {
	for iface, want := range map[string]plan.Names{
		"eth0":           {Interface: "eth0", NIC: "eth0-nic", Bridge: "k6t-eth0", Tap: "tap0"},
		"net1":           {Interface: "net1", NIC: "net1-nic", Bridge: "k6t-net1", Tap: "tap1"},
		"pod16477688c0e": {Interface: "pod16477688c0e", NIC: "16477688c0e-nic", Bridge: "k6t-16477688c0e", Tap: "tap16477688c0e"},
	} {
		want.Binding = plan.BindingOf(plan.BindingManagedTap)
		if got := plan.ManagedTapNames(iface); got != want {
			t.Errorf("%s: %+v", iface, got)
		}
	}
}
