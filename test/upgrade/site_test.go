// Package upgrade tests that podnic takes over what an earlier version of it has wired: a pod whose wiring and files are
// those of that version, and a guest that goes on.
//
// A checkout has no earlier program, and so testdata has what one did: wiring.txt are its requests to the kernel, byte for
// byte, and the other files are those it wrote. `make earlier` builds the program of that commit, where the repository's
// history is, runs the same tests with the program itself, and compares what it does with the recording; with UPDATE=1 it
// records anew.
package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// site is a pod in which the interface has the same MAC each time, as in the recording.
type site struct {
	*podtest.Site
	card  *pod.Namespace // that of the guest
	index int            // that of the pod's interface before anything renames it
}

// gateway is the pod's (pod.Plain).
const gateway = "10.244.1.1"

// withAnother is pod.Plain with a link that was there before the pod's, which so has not the index of the recording. Each new
// namespace has such links on a machine with the modules of tunnels, of ipip or sit for example
// (net.core.fb_tunnels_only_for_init_net).
func withAnother() pod.Network {
	network := pod.Plain
	network.Scripts.Node = `ip link delete $LINK
ip -n $POD link add another type bridge
ip link add $LINK type veth peer name eth0 address $MAC netns $POD
` + network.Scripts.Node
	return network
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	t.Parallel()
	s := &site{Site: podtest.NewSite(t, podtest.Node(t), network)}
	s.index = podtest.Link(t, s.Pod.Namespace, pod.Interface).Index
	s.Remember()
	s.card = s.Guest()
	return s
}

// earlier is a podnic of another version in the site.
type earlier struct {
	// network is that of the pod.
	network pod.Network
	// wire prepares the pod.
	wire func(*site)
	// serve has the guest, which is plugged in, get its lease, and ends the server. The guest renews by what is returned.
	serve func(*site) (renew func())
}

// earliers are those that tests run with. The build tag earlier adds the program itself.
var earliers = map[string]earlier{
	"recorded":                    {pod.Plain, (*site).replay, (*site).replayServer},
	"recorded, with another link": {withAnother(), (*site).replay, (*site).replayServer},
}

// replay does what the earlier program did, and writes its record.
func (s *site) replay() {
	s.T.Helper()
	text, err := os.ReadFile("testdata/wiring.txt")
	if err == nil {
		err = s.Pod.Do(func() error { return replay(string(text), s.index) })
	}
	if err != nil {
		s.T.Fatal(err)
	}
	s.write("record.json", 0o600)
}

// replayServer writes what the server wrote, and gives the guest what it gave it.
func (s *site) replayServer() (renew func()) {
	s.T.Helper()
	s.write("state.json", 0o644)
	s.In(s.card, fmt.Sprintf("ip address add %s/24 dev eth0\nip route add default via %s", s.Pod.Address.Addr(), gateway))
	return func() {
		s.T.Helper()
		s.client()
	}
}

// write puts a file of the recording into the state directory, as one of this boot and namespace, and of the interface.
func (s *site) write(name string, mode os.FileMode) {
	s.T.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		s.T.Fatal(err)
	}
	if err := os.MkdirAll(s.StateDir, 0o755); err != nil {
		s.T.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.StateDir, name), []byte(podtest.Recorded(s.T, s.Pod.Namespace, indexed(string(text), s.index))), mode); err != nil {
		s.T.Fatal(err)
	}
}

// indexed is a file of podnic's with another index of the pod's interface, whose alone is in one.
func indexed(text string, index int) string {
	return regexp.MustCompile(`"index": \d+`).ReplaceAllString(text, fmt.Sprintf(`"index": %d`, index))
}

// client runs the guest's DHCP client until it is bound, and leaves it running.
func (s *site) client() *podtest.Process {
	s.T.Helper()
	script := filepath.Join(s.T.TempDir(), "script")
	podtest.Executable(s.T, script, []byte(`#!/bin/sh -e
case $1 in bound|renew)
	ip address replace "$ip/$mask" dev "$interface"
	ip route replace default via "$router"
	echo "client: $1 $ip";;
esac
`))
	p := podtest.Start(s.T, "the guest's client", s.onCard("busybox", "udhcpc", "-f", "-i", "eth0", "-T", "1", "-t", "30", "-s", script))
	p.Says("client: bound " + s.Pod.Address.Addr().String())
	return p
}

// onCard makes a command in the guest.
func (s *site) onCard(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(s.T.Context(), "nsenter", append([]string{"--net=" + s.card.Path, "--", name}, args...)...)
}
