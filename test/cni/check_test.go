package cni

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/podnic/podnic/test/podtest"
)

// TestCheckNamesWhatIsBroken breaks one thing after the other in a healthy wiring, and has ADD mend it.
func TestCheckNamesWhatIsBroken(t *testing.T) {
	s := newSite(t)
	both, _, result := s.attach(podnic(nil))
	check := func() error {
		_, err := s.podnic(call{command: "CHECK", list: both, prev: result})
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct{ command, want string }{
		{"ip link set tap0 nomaster", "set master tap0"},
		{"ip link set eth0-nic nomaster", "set master eth0-nic"},
		{"ip link set eth0-br down", "set link eth0-br"},
		{"ip link set eth0-br arp off", "set arp eth0-br"},
		{"ip link set eth0-nic address 02:00:00:00:00:01", "set address eth0-nic"},
		{"ip link set tap0 mtu 1400", "set mtu tap0"},
		{"ip link delete tap0", "add link tap0"},
		{"ip address add 10.9.9.9/24 dev eth0", "10.9.9.9/24"},
		{"ip address delete 169.254.75.10/32 dev eth0-br", "169.254.75.10/32"},
		{"ip route flush table 1886257406", "add route"},
		{"ip link delete eth0", "eth0"},
		{"nft delete table bridge podnic-eth0", "set filter podnic-eth0"},
		{"nft flush chain bridge podnic-eth0 output", "filter podnic-eth0"},
		{"sysctl -q -w net.ipv4.ip_unprivileged_port_start=1024", "net.ipv4.ip_unprivileged_port_start is 1024"},
		{"sysctl -q -w net.ipv4.conf.all.accept_local=0", "net.ipv4.conf.all.accept_local is 0"},
		{"rm " + s.state + "/*/*/record.json", "the record of the wiring is gone"},
		{"rm " + s.state + "/*/*/provision.json", "provision.json"},
	} {
		podtest.In(s.t, s.pod, broken.command)
		s.fails(check(), cni.CodeBroken, broken.want)
		s.mustPodnic(call{command: "ADD", list: both, prev: result})
		if err := check(); err != nil {
			t.Fatalf("after %q and ADD: %v", broken.command, err)
		}
	}
	podtest.In(s.t, s.pod, "rm -r "+s.state+"/*")
	s.fails(check(), cni.CodeBroken, "no record of the attachment")
}

// TestCheckWithoutTheInterface takes the pod's link away, as its network does when it takes the pod down.
func TestCheckWithoutTheInterface(t *testing.T) {
	s := newSite(t)
	both, _, result := s.attach(podnic(nil))
	podtest.In(s.t, s.pod, "ip link delete eth0-nic")
	_, err := s.podnic(call{command: "CHECK", list: both, prev: result})
	s.fails(err, cni.CodeBroken, "eth0, which was wired, is gone")
	s.mustPodnic(call{command: "DEL", list: both, prev: result})
	if links := podtest.In(s.t, s.pod, "ip -o link"); strings.Count(links, "\n") != 1 {
		t.Errorf("besides the loopback there is left:\n%s", links)
	}
}

// TestStatusSaysWhatIsMissing hides what ADD needs.
func TestStatusSaysWhatIsMissing(t *testing.T) {
	s := newSite(t)
	node := s.wired(s.node.Namespace)
	list := s.network("1.1.0", podnic(nil))
	s.mustPodnic(call{command: "STATUS", list: list})

	unwritable := s.network("1.1.0", podnic(object{"stateDir": "/proc/nowhere"}))
	_, err := s.podnic(call{command: "STATUS", list: unwritable})
	s.fails(err, types.ErrPluginNotAvailable, "state directory")

	cmd := s.command(call{command: "STATUS", list: list})
	out := s.run(cmd, "unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs /dev/net && exec "$0"`)
	if !strings.Contains(out, `"code": 50`) || !strings.Contains(out, "/dev/net/tun") {
		t.Errorf("without /dev/net/tun: %s", out)
	}
	cmd = s.command(call{command: "STATUS", list: list})
	if out := s.run(cmd, "setpriv", "--bounding-set", "-net_admin"); !strings.Contains(out, `"code": 50`) || !strings.Contains(out, "CAP_NET_ADMIN") {
		t.Errorf("without a capability: %s", out)
	}
	if after := s.wired(s.node.Namespace); after != node {
		t.Errorf("the node was\n%s\nand is\n%s", node, after)
	}
}
