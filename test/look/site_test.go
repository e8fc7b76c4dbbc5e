// Package look tests the commands that look and change nothing, status and doctor, as they run in a pod: the built program,
// in real namespaces that are broken by the tools that people break them with.
package look

import (
	"flag"
	"os"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience is what a wait is bounded by, as status takes it.
var patience = podtest.Patience.String()

// TestMain lets all tests run at once: most of their time they wait for the kernel to settle.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// making bounds how many pods are made at once: all of them take one lock in the kernel.
var making = make(chan struct{}, 6)

// site is a pod whose interface a guest may get.
type site struct {
	*podtest.Site
	guest  *pod.Namespace
	server *podtest.Process
	unplug func() // takes the guest off its tap
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	making <- struct{}{}
	defer func() { <-making }()
	return &site{Site: podtest.NewSite(t, podtest.Node(t), network)}
}

// serve wires the pod, serves it, and gives the guest its lease.
func (s *site) serve() {
	s.T.Helper()
	s.Must("prepare")
	s.server = s.Start("serve")
	s.plug()
	s.In(s.guest, "busybox udhcpc -f -q -n -t 40 -T 1 -i eth0 -s /bin/true 2>/dev/null")
	s.Must("status", "--wait", "ready", "--timeout", patience)
}

func (s *site) killServer() { s.server.End(syscall.SIGKILL) }

// plug puts a guest on the tap.
func (s *site) plug() {
	s.T.Helper()
	s.guest = s.Guest()
	s.unplug = s.Plug(s.guest)
}
