// Package shapes tests podnic in every kind of pod network: the built program gives a pod's identity to a real DHCP
// client behind the tap, traffic passes as it did for the pod, and restore brings all of it back.
package shapes

import (
	"context"
	"os/exec"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// site is a pod whose interface a guest gets, the guest, and a second pod beside them.
type site struct {
	*podtest.Site
	other *pod.Pod
	guest *pod.Namespace

	wire   *podtest.Sniffer // what leaves the pod
	card   *podtest.Sniffer // the guest's side
	unplug func()
	// guestEtc is the directory that the guest has as /etc.
	guestEtc string
}

// newSite makes the pods and runs the set-up script, if there is one, in the node's namespace before that.
func newSite(t *testing.T, setUp string, network func(number int) pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	podtest.In(t, node.Namespace, setUp)
	s := &site{Site: podtest.NewSite(t, node, network(5)), unplug: func() {}}
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: network(6)})
	s.guest = s.Guest()
	s.Remember()
	s.wire = podtest.Sniff(t, node.Namespace, s.Pod.HostLink)
	return s
}

// confine has each command of podnic run with the privileges that it needs.
func (s *site) confine(as func(verb string) privileges) {
	s.Prepare = func(ctx context.Context, args []string) *exec.Cmd {
		p := as(args[0])
		return s.Pod.Command(ctx, testdata(s.T, "contained"), append([]string{p.uid, p.capabilities, s.Podnic, s.StateDir}, args...)...)
	}
}

// plug puts the guest on the tap.
func (s *site) plug() {
	s.T.Helper()
	s.unplug = s.Plug(s.guest)
	s.card = podtest.Sniff(s.T, s.guest, pod.Interface)
}

// leftThePod returns once all that the guest sent so far has been noted on the wire.
func (s *site) leftThePod() {
	s.T.Helper()
	s.wire.Passed(s.MAC, s.card.Send)
}

// restored takes the interface back and compares the namespace with what it was.
func (s *site) restored() {
	s.T.Helper()
	s.unplug()
	s.Must("restore")
	s.AsBefore()
	if left := podtest.Files(s.T, s.StateDir); len(left) > 0 {
		s.T.Errorf("left in the state directory: %v", left)
	}
}
