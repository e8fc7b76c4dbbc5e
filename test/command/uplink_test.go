package command

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pages"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestOnTheNodesLinkIsThePod runs a guest in pods of the real plugins whose links stand on one of the node's, which podnic
// redirects without being told to. Two other pods reach it: by IPv4, and by asking for the neighbour that has the pod's
// IPv6 address with frames of their own, which nobody answers until the guest has it. The guest is a kernel that runs as a process: it is quick
// also where the node is emulated, and so test/kernels runs this on nodes that have ipvlan.
func TestGuestOnTheNodesLinkIsThePod(t *testing.T) {
	podtest.NeedRoot(t)
	image, err := guest.BuildWith(t.TempDir(), guest.Extra{Kernel: guest.UserKernel})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []pod.Network{pod.Macvlan, pod.Ipvlan} {
		if !has(t, network.Plugin) {
			continue
		}
		t.Run(network.Plugin, func(t *testing.T) {
			node := podtest.Node(t)
			if err := node.AddUplink(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := podtest.NewSite(t, node, network)
			others := []*pod.Pod{
				podtest.Pod(t, node, pod.Spec{Name: "other", Network: network}), podtest.Pod(t, node, pod.Spec{Name: "third", Network: network}),
			}
			s.Remember()
			machine := guest.UserMode{Image: image, Directory: t.TempDir(), Tap: "$(PODNIC_TAP)", MAC: "$(PODNIC_MAC)"}
			if args := machine.Args(); !slices.Equal(thePages(t), []string{"podnic", "run", "--", "linux.uml", "…", args[len(args)-1]}) {
				t.Errorf("docs/qemu.md has %q, and this runs %q", thePages(t), args)
			}
			p := boot(s, machine, "run")
			report := s.Ready()
			if i := report.Interfaces[0]; i.Binding != "redirect" || i.Lease.Address != s.Pod.Address.Addr() || i.MAC != s.MAC.String() {
				t.Errorf("status: %+v", i)
			}
			if mac := podtest.SolicitFor(t, others[0], s.Pod.Address6.Addr(), 300*time.Millisecond); mac != nil {
				t.Errorf("%v answers for the pod's IPv6 address, which the guest does not have yet", mac)
			}
			client := guest.Client{Address: s.Pod.Address.Addr(), Dial: others[0].DialContext}
			script := "ip address add " + s.Pod.Address6.String() + " dev eth0"
			for _, other := range others {
				script += " && ping -c 1 -W 5 " + other.Address.Addr().String()
			}
			if out, err := client.Run(t.Context(), script); err != nil {
				t.Errorf("the guest reaches the other pods: %v\n%s", err, out)
			}
			for _, other := range others {
				client := guest.Client{Address: s.Pod.Address.Addr(), Dial: other.DialContext}
				if _, err := client.Hello(t.Context()); err != nil {
					t.Errorf("from the pod %s: %v", other.Name, err)
				}
				if mac := podtest.Solicit(t, other, s.Pod.Address6.Addr()); !slices.Equal(mac, s.MAC) {
					t.Errorf("the pod %s hears that %s is at %s, want %s", other.Name, s.Pod.Address6.Addr(), mac, s.MAC)
				}
			}
			if _, err := client.Run(t.Context(), "(usleep 100000; poweroff -f) >/dev/null 2>&1 &"); err != nil {
				t.Error(err)
			}
			p.Exits(0)
			s.AsBefore()
		})
	}
}

// thePages are the words of the command that docs/qemu.md has for this.
func thePages(t *testing.T) []string {
	t.Helper()
	page, err := pages.Read("../../docs/qemu.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := page.RunBy("TestGuestOnTheNodesLinkIsThePod")
	if len(blocks) != 1 || len(blocks[0].Commands) != 1 {
		t.Fatalf("the page has these commands for user-mode Linux: %+v", blocks)
	}
	return strings.Fields(strings.ReplaceAll(blocks[0].Commands[0].Text, "'", ""))
}

// boot starts a machine by podnic, and waits until its guest is ready. Now and then the host refuses user-mode Linux its first
// process, and it panics: then it is started again.
func boot(s *podtest.Site, machine guest.UserMode, command ...string) *podtest.Process {
	s.T.Helper()
	for again := 2; ; again-- {
		p := s.Start(slices.Concat(command, []string{"--"}, machine.Args())...)
		if p.SaysOrEnds("guest: ready") {
			return p
		}
		if p.Wait(); again == 0 || !strings.Contains(p.Text(), "can't fork") {
			s.T.Fatal("the guest did not come up")
		}
	}
}

// has reports whether the kernel makes links of a kind.
func has(t *testing.T, kind string) bool {
	t.Helper()
	node := podtest.Node(t)
	podtest.In(t, node.Namespace, "ip link add up0 type veth peer name up1")
	_, err := node.Output(t.Context(), "ip", "link", "add", "link", "up0", "name", "probe", "type", kind)
	if err != nil && !strings.Contains(err.Error(), "Unknown device type") && !strings.Contains(err.Error(), "not supported") {
		t.Fatal(err)
	}
	return err == nil
}
