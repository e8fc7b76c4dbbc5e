package shapes

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// privileges are what a process in a container has.
type privileges struct {
	uid, capabilities string
}

const both = "+net_admin,+net_raw"

// TestTwoCapabilitiesAreEnough runs a round with /proc/sys read-only and no capability but those that each command says
// it needs.
func TestTwoCapabilitiesAreEnough(t *testing.T) {
	needs := map[string]string{"prepare": both, "restore": both, "serve": "+net_raw", "status": ""}
	for name, uid := range map[string]int{"ambient, not root": 65534, "root without the others": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "", plugin(pod.PTP))
			if err := os.Mkdir(s.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(s.StateDir, uid, uid); err != nil {
				t.Fatal(err)
			}
			s.confine(func(verb string) privileges { return privileges{strconv.Itoa(uid), needs[verb]} })
			s.Must("prepare")
			server := s.Serve("--subnet-mask", "pod") // it then has to find the gateway's MAC
			s.plug()
			client := s.lease("udhcpc, mask only")
			if r := s.Ready(); len(r.Interfaces[0].Warnings) > 0 || r.Interfaces[0].Lease.Address != s.Pod.Address.Addr() {
				t.Errorf("status: %+v", r)
			}
			s.ping(s.guest, s.other.Address.Addr().String(), 1500)
			s.stranger()
			client.End(syscall.SIGTERM)
			if status := server.End(syscall.SIGTERM); status != 0 {
				t.Errorf("podnic serve: exit status %d", status)
			}
			s.restored()
		})
	}
}

// stranger asks for the status as somebody who may read neither the record nor the server's state: the namespace says
// who the guest is.
func (s *site) stranger() {
	s.T.Helper()
	as := s.Prepare
	defer func() { s.Prepare = as }()
	s.confine(func(string) privileges { return privileges{uid: "65533"} })
	if i := s.Status().Interfaces[0]; i.MAC != s.MAC.String() || i.Offer.Address.Addr() != s.Pod.Address.Addr() {
		s.T.Errorf("a stranger's status: %+v", i)
	}
}

// TestStrangerSeesWhosePortsAre asks for the status as somebody who may read neither the record nor nftables. The tap's alias
// says that the pod shares its address, and the ports where it has room for them; else the status says that it cannot tell.
func TestStrangerSeesWhosePortsAre(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprint(20000 + 2*i)
	}
	for name, test := range map[string]struct {
		socket   string
		podPorts []string
		told     bool
	}{
		"packet":    {"packet", []string{"53/udp", "8080-8083"}, true},
		"udp":       {"udp", []string{"53/udp", "8080-8083"}, true},
		"many":      {"packet", many, false},
		"many, udp": {"udp", many, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "", plugin(pod.PTP))
			podtest.In(t, s.Pod.Namespace, "sysctl -qw 'net.ipv4.ip_local_port_range=28232 32767'")
			s.Remember()
			as := s.Prepare
			s.Must("prepare", "--binding", "shared", "--socket", test.socket, "--pod-ports", strings.Join(test.podPorts, ","), "--guest-ports", "22/tcp")
			s.confine(func(string) privileges { return privileges{uid: "65533"} })
			i := s.Status().Interfaces[0]
			if i.Binding != "shared" || len(i.Differences) > 0 || i.Offer.Address.Addr() != s.Pod.Address.Addr() {
				t.Errorf("a stranger's status: %+v", i)
			}
			told := slices.Equal(i.PodPorts, test.podPorts) && slices.Equal(i.GuestPorts, []string{"22/tcp"}) && i.SourcePorts == "28232-32767"
			cannot := strings.Contains(strings.Join(i.Warnings, "\n"), "cannot tell which ports")
			if told != test.told || cannot == test.told {
				t.Errorf("ports: told %v, and that it cannot tell: %v: %+v", told, cannot, i)
			}
			s.Prepare = as
			if i := s.Status().Interfaces[0]; !slices.Equal(i.PodPorts, test.podPorts) || len(i.Warnings) > 0 {
				t.Errorf("who may see all of it: %+v", i)
			}
			s.restored()
		})
	}
}

// TestLinkThatCannotBeAPortIsRefused gives a pod links of other kinds than veth, as their plugins do.
func TestLinkThatCannotBeAPortIsRefused(t *testing.T) {
	const parent = "ip link add uplink type bridge\nip link set uplink up"
	const moved = "\nip link set link$NUMBER netns $POD"
	for kind, test := range map[string]struct {
		node, pod string // make link$NUMBER
		args      []string
		words     []string
	}{
		"macvlan": {
			node:  "ip link add link uplink name link$NUMBER type macvlan mode bridge" + moved,
			args:  []string{"--binding", "bridge"},
			words: []string{"macvlan", "its own MAC", "veth"},
		},
		"bridge": {
			pod:   "ip link add link$NUMBER type bridge",
			words: []string{"port of another bridge"},
		},
	} {
		t.Run(kind, func(t *testing.T) {
			podtest.NeedRoot(t)
			s := newSite(t, parent, byHand(1500, test.node, "ip link set eth0 name other0\n"+test.pod+`
ip link set link$NUMBER name eth0
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1`))
			out, errs, status := s.Run(append([]string{"prepare"}, test.args...)...)
			if status != 2 || out != "" || strings.Count(errs, "\n") != 1 {
				t.Errorf("status %d: %s%s", status, out, errs)
			}
			for _, word := range append(test.words, "eth0") {
				if !strings.Contains(errs, word) {
					t.Errorf("%q is not in: %s", word, errs)
				}
			}
			s.AsBefore()
			if _, err := os.Stat(s.StateDir); err == nil {
				t.Error("a state directory was made")
			}
		})
	}
}
