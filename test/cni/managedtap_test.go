package cni

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/test/podtest"
)

// binding is the network attachment of KubeVirt's binding plugin, as Multus calls it: with an interface name of its own,
// and the name of the virtual machine's network.
func (s *site) binding(plugin object, logicNetwork string) call {
	s.t.Helper()
	rt := runtime(s.pod)
	rt.IfName = "net1"
	return call{
		command: "ADD", list: s.network("1.0.0", plugin), rt: rt,
		keys: object{"args": object{"cni": object{"logicNetworkName": logicNetwork}}},
	}
}

// do is the same call with another command.
func (c call) do(command string) call {
	c.command = command
	return c
}

// TestManagedTapIsProvidedFor has the pod network's interface, and then a secondary one, readied for KubeVirt's wiring.
func TestManagedTapIsProvidedFor(t *testing.T) {
	managed := object{"type": "podnic", "binding": "managedTap"}
	// What KubeVirt calls the interface of the network "red": pod and the beginning of the SHA-256 of its name.
	const red = "podb1f51a511f1"
	for network, iface := range map[string]string{"default": "eth0", "red": red} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t)
			main := s.network("1.0.0", mains["ptp"])
			s.mustAdd(main, s.pod)
			if iface != "eth0" {
				podtest.In(s.t, s.pod, "ip link add "+iface+" type veth peer name peer0\nip address add 10.244.9.5/24 dev "+iface)
			}
			before := s.view(s.pod)
			c := s.binding(managed, network)
			result := s.current(s.mustPodnic(c))
			if len(result.Interfaces) != 1 || result.Interfaces[0].Name != iface || result.Interfaces[0].Mac == "" || result.Interfaces[0].Sandbox != s.pod.Path {
				t.Errorf("result: %+v", result)
			}
			for command, want := range map[string]string{
				"sysctl net.ipv4.ip_unprivileged_port_start net.ipv4.conf.all.accept_local": "port_start = 0\nnet.ipv4.conf.all.accept_local = 1",
				"sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.default.rp_filter":        "all.rp_filter = 0\nnet.ipv4.conf.default.rp_filter = 0",
				"ip -o -4 address show dev lo":                                              "169.254.75.10/32 scope host",
			} {
				if out := podtest.In(s.t, s.pod, command); !strings.Contains(out, want) {
					t.Errorf("%s: %s", command, out)
				}
			}
			s.mustPodnic(c)
			s.mustPodnic(c.do("CHECK"))
			podtest.In(s.t, s.pod, "nft delete table bridge podnic-"+iface)
			_, err := s.podnic(c.do("CHECK"))
			s.fails(err, cni.CodeBroken, "there is no filter podnic-"+iface)
			s.mustPodnic(c)
			for range 2 {
				s.mustPodnic(c.do("DEL"))
				s.same(before, s.pod)
			}
			s.mustDel(main, runtime(s.pod))
			s.nothingKept()
		})
	}
}

// TestBindingCanWireAnInterfaceByName has Multus call for eth0 under another name.
func TestBindingCanWireAnInterfaceByName(t *testing.T) {
	s := newSite(t)
	s.mustAdd(s.network("1.0.0", mains["ptp"]), s.pod)
	before := s.view(s.pod)
	c := s.binding(podnic(object{"interface": "eth0"}), "default")
	result := s.current(s.mustPodnic(c))
	if len(result.Interfaces) != 2 || result.Interfaces[0].Name != "eth0" || result.Interfaces[1].Name != "tap0" {
		t.Errorf("result: %v", result.Interfaces)
	}
	if phase, text := s.status(s.pod); phase != "wired" {
		t.Errorf("status: %s", text)
	}
	s.mustPodnic(c.do("CHECK"))
	s.mustPodnic(c.do("DEL"))
	s.same(before, s.pod)
}

// TestTwoAttachmentsOfAPodShareTheSettings deletes them in the order in which they were added.
func TestTwoAttachmentsOfAPodShareTheSettings(t *testing.T) {
	s := newSite(t)
	s.mustAdd(s.network("1.0.0", mains["ptp"]), s.pod)
	podtest.In(s.t, s.pod, "ip link add net1 type veth peer name peer0\nip address add 10.244.9.5/24 dev net1")
	before := s.view(s.pod)
	list := s.network("1.0.0", object{"type": "podnic", "binding": "managedTap"})
	first := call{command: "ADD", list: list, rt: runtime(s.pod)}
	second := call{command: "ADD", list: list, rt: &libcni.RuntimeConf{ContainerID: s.pod.Name, NetNS: s.pod.Path, IfName: "net1"}}
	s.mustPodnic(first)
	s.mustPodnic(second)
	// Each has a server of its own, whose address has its name, but for the first.
	addresses := func(want ...string) {
		t.Helper()
		out := podtest.In(s.t, s.pod, "ip -o -4 address show dev lo to 169.254.0.0/16")
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("the addresses are\n%s\nwant one with %q", out, text)
			}
		}
		if n := strings.Count(out, "\n"); n != len(want) {
			t.Errorf("there are %d addresses:\n%s", n, out)
		}
	}
	addresses("169.254.75.10/32 scope host lo", "169.254.75.11/32 scope host net1")
	s.mustPodnic(first)
	addresses("169.254.75.10/32 scope host lo", "169.254.75.11/32 scope host net1")
	s.mustPodnic(first.do("DEL"))
	addresses("169.254.75.11/32 scope host net1")
	s.mustPodnic(second.do("CHECK"))
	s.mustPodnic(second.do("DEL"))
	s.same(before, s.pod)
}

// kubeVirt lays the wiring that KubeVirt's node agent lays: the link renamed and with another MAC, a bridge without an
// address, a tap, and a placeholder that has the pod's addresses and is down.
const kubeVirt = `
ip link set eth0 down
address=$(ip -o -4 address show dev eth0 | sed 's/.* inet \([^ ]*\) .*/\1/')
ip address flush dev eth0
ip link set eth0 name eth0-nic
ip link add k6t-eth0 type bridge
ip link set eth0-nic address 02:00:00:00:00:01
ip link set eth0-nic master k6t-eth0
bridge link set dev eth0-nic learning off
ip tuntap add tap0 mode tap user 107 vnet_hdr
ip link set tap0 master k6t-eth0
ip link add eth0 type bridge
ip address add $address dev eth0
sysctl -q -w net.ipv4.conf.all.arp_ignore=1
ip link set k6t-eth0 up
ip link set tap0 up
ip link set eth0-nic up`

// TestServerWithoutCapabilityIsHeardByTheGuestAlone has a process of nobody speak as a DHCP server on KubeVirt's bridge.
func TestServerWithoutCapabilityIsHeardByTheGuestAlone(t *testing.T) {
	s := newSite(t)
	s.mustAdd(s.network("1.0.0", mains["ptp"]), s.pod)
	c := s.binding(object{"type": "podnic", "binding": "managedTap"}, "default")
	s.mustPodnic(c)
	podtest.In(s.t, s.pod, kubeVirt)
	guest, outside := podtest.HoldTap(t, s.pod, "tap0"), s.listen("eth0-nic")
	leaves := func(text string, patience time.Duration) []byte {
		return find(outside.SetReadDeadline, func(b []byte) (int, error) { n, _, err := outside.ReadFrom(b); return n, err }, text, patience)
	}
	mark := func(text string) {
		frame := append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 2, 0x88, 0xb5) // for local experiments
		frame = append(append(frame, text...), make([]byte, 46)...)
		if _, err := guest.Write(append(make([]byte, virtioHeader), frame...)); err != nil {
			t.Fatal(err)
		}
	}
	// The carrier of a link that was just set up takes its time.
	for passes, i := false, 0; !passes; i++ {
		if i == 1000 {
			t.Fatal("no frame passes the bridge")
		}
		mark("the first")
		passes = leaves("the first", 100*time.Millisecond) != nil
	}

	if out, err := s.helper(65534, "say", "k6t-eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	frame := find(guest.SetReadDeadline, guest.Read, "offer", patience)
	if len(frame) < virtioHeader+34 || !bytes.Equal(frame[virtioHeader+26:virtioHeader+30], identity.ServerLinkLocal.AsSlice()) {
		t.Errorf("the guest hears %x", frame)
	}
	mark("not an offer") // what left before it is heard before it
	if frame := leaves("offer", patience); !bytes.Contains(frame, []byte("not an offer")) {
		t.Errorf("this leaves the pod: %x", frame)
	}
	s.mustPodnic(c.do("DEL"))
	if left := podtest.In(s.t, s.pod, "ip -o -4 address show dev lo; nft list tables"); strings.Contains(left, "169.254") || strings.Contains(left, "podnic") {
		t.Errorf("left: %s", left)
	}
}

const (
	virtioHeader = 12 // bytes before each frame of a tap
	patience     = podtest.Patience
)

// find waits for a frame that contains a text; nil when none comes.
func find(deadline func(time.Time) error, read func([]byte) (int, error), text string, wait time.Duration) []byte {
	if err := deadline(time.Now().Add(wait)); err != nil {
		return nil
	}
	for b := make([]byte, 2000); ; {
		n, err := read(b)
		if err != nil {
			return nil
		}
		if bytes.Contains(b[:n], []byte(text)) {
			return b[:n]
		}
	}
}

// listen hears all that passes a link of the pod.
func (s *site) listen(link string) *packet.Conn {
	s.t.Helper()
	var conn *packet.Conn
	err := s.pod.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(i, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// TestOwnerOpensTheTapWithoutCapability opens taps as an emulator does, as a user whose group has the same number. Where
// a tap has an owner and a group, the kernel wants both (tun_not_capable, drivers/net/tun.c).
func TestOwnerOpensTheTapWithoutCapability(t *testing.T) {
	for name, test := range map[string]struct {
		keys  object
		opens map[int]bool
	}{
		"owner": {object{"owner": 107}, map[int]bool{107: true, 108: false}},
		"both":  {object{"owner": 107, "group": 107}, map[int]bool{107: true, 108: false}},
		"split": {object{"owner": 107, "group": 108}, map[int]bool{107: false, 108: false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.attach(podnic(test.keys))
			for uid, opens := range test.opens {
				if out, err := s.helper(uid, "open", "tap0").CombinedOutput(); (err == nil) != opens {
					t.Errorf("as user %d: %v: %s", uid, err, out)
				}
			}
		})
	}
}
