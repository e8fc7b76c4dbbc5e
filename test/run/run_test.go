// Package run tests `podnic run` as its users run it: the built program, in pods made by real CNI plugins, with real
// guests under a real libvirtd.
package run

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// site is a pod with libvirtd in it and a second pod beside it.
type site struct {
	*podtest.Site
	other    *pod.Pod
	libvirtd *libvirtd.Daemon
	image    *guest.Image
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	if network.OnUplink() {
		if err := node.AddUplink(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := &site{Site: podtest.NewSite(t, node, network)}
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: network})
	s.libvirtd = podtest.Libvirtd(t, s.Pod)
	var programs []string
	if network.Subnet6.IsValid() {
		programs = append(programs, guest.DHCPv6Client)
	}
	s.image = podtest.Guest(t, programs...)
	s.Remember()
	return s
}

// domain writes a domain's XML and returns its file and its console.
func (s *site) domain(arguments ...string) (file, console string) {
	s.T.Helper()
	dir := s.T.TempDir()
	file, console = filepath.Join(dir, "domain.xml"), filepath.Join(dir, "console")
	xml, err := guest.Domain{Name: "vm", Image: s.image, KVM: s.libvirtd.KVM, Console: console, Arguments: arguments}.XML()
	if err == nil {
		err = os.WriteFile(file, []byte(xml), 0o600)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	return file, console
}

// run starts `podnic run` in the pod.
func (s *site) run(args ...string) *podtest.Process {
	s.T.Helper()
	return s.Start(append([]string{"run", "--connect", s.libvirtd.URI}, args...)...)
}

// hello asks the guest's web server, on each of the pod's addresses, from the other pod.
func (s *site) hello() error {
	for _, address := range []netip.Prefix{s.Pod.Address, s.Pod.Address6} {
		if !address.IsValid() {
			continue
		}
		if _, err := (guest.Client{Address: address.Addr(), Dial: s.other.DialContext}).Hello(s.T.Context()); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) client() guest.Client {
	return guest.Client{Address: s.Pod.Address.Addr(), Dial: s.other.DialContext}
}

// execHere runs a program in the namespace that the test itself is in.
func execHere(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
