// Package serve tests the DHCP server as it runs in a pod: the built program, in packet mode and, as an ordinary user,
// in UDP mode, with real DHCP clients behind the tap and with guests that mean harm.
package serve

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// modes are the kinds of sockets.
var modes = []string{"packet", "udp"}

// chained is UDP mode in a pod that podnic itself wires as a CNI plugin, from the node. There is no record in the pod.
const chained = "chained"

// nobody is the user that the server runs as in UDP mode, with no capability at all.
const nobody = 65534

// serverLinkLocal is the server identifier where the gateway cannot be it.
const serverLinkLocal = "169.254.75.10"

// site is a pod whose interface a guest gets.
type site struct {
	*podtest.Site
	mode string
	wire *podtest.Sniffer // what leaves the pod
}

// shape is a pod network and what the guest must be told of it.
type shape struct {
	name    string
	setUp   string // in the node's namespace, before there are pods
	network pod.Network
	bits    int
	gateway string // empty: no default route
	onLink  bool   // the gateway is outside the guest's subnet
}

const mtu = 1450

// shapes are the three that differ in how the guest reaches the server.
var shapes = []shape{
	{name: "bridge", network: pod.Bridge.WithMTU(mtu), bits: 24, gateway: "10.244.2.1"},
	{
		name:  "no default route",
		setUp: "ip link add br0 type bridge\nip link set br0 up",
		network: pod.Network{MTU: mtu, Scripts: pod.Scripts{
			Address: netip.MustParseAddr("10.244.1.5"),
			Node:    "ip link set $LINK master br0 up",
			Pod:     "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up",
		}},
		bits: 24,
	},
	{
		name: "host address",
		setUp: `ip link add uplink type bridge
ip address add 198.51.100.1/24 dev uplink
ip link set uplink up
ip route add default via 198.51.100.254`, // what proxy ARP answers for must be elsewhere
		network: pod.HostAddress.WithMTU(mtu),
		bits:    32, gateway: "169.254.1.1", onLink: true,
	},
}

// settings are what the CNI plugin makes for a server without capabilities. With a redirect, what a renewing guest takes is
// set on the tap by netlink, so that a namespace may be as strict as it likes.
var settings = map[string]map[string]string{
	"bridge":   {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.conf.all.accept_local": "1"},
	"redirect": {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.conf.all.rp_filter": "1"},
}

// TestMain lets all tests run at once: most of their time they wait for a client to renew its lease.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// making bounds how many pods are made at once: all of them take one lock in the kernel, and duplicate address
// detection waits for it too.
var making = make(chan struct{}, 6)

// newSite makes the pod and wires it with a bridge.
func newSite(t *testing.T, mode string, shape shape) *site {
	t.Helper()
	return newBoundSite(t, "bridge", mode, shape)
}

// newBoundSite makes the pod and wires it.
func newBoundSite(t *testing.T, binding, mode string, shape shape) *site {
	t.Helper()
	podtest.NeedRoot(t)
	making <- struct{}{}
	defer func() { <-making }()
	plugin := t.TempDir() // the CNI plugin's, which it needs until the node is gone
	node := podtest.Node(t)
	podtest.In(t, node.Namespace, shape.setUp)
	if mode == chained {
		node.AddPlugins(filepath.Dir(podtest.Program(t)))
		shape.network = shape.network.Chain(map[string]any{
			"type": "podnic", "binding": binding, "owner": 107,
			"stateDir": filepath.Join(plugin, "state"), "logFile": filepath.Join(plugin, "log"),
		})
	}
	s := &site{Site: podtest.NewSite(t, node, shape.network), mode: mode}
	if mode == "udp" {
		kind, _, _ := strings.Cut(binding, " by ")
		for name, value := range settings[kind] {
			s.set(name, value)
		}
	}
	if err := os.Mkdir(s.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.wire = podtest.Sniff(t, node.Namespace, s.Pod.HostLink)
	if mode != chained { // in a place where /proc/sys is read-only, as it is in a pod
		prepare := []string{s.Podnic, "prepare --state-dir", s.StateDir, s.Bind(binding), "--socket", mode}
		s.In(s.Pod.Namespace, "mount --bind /proc/sys /proc/sys\nmount -o remount,bind,ro /proc/sys\n"+
			strings.Join(append(slices.Clone(s.Environ), prepare...), " "))
	}
	if mode != "packet" {
		if err := os.Chown(s.StateDir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// seen is the state directory as the server sees it (testdata/ordinary).
func (s *site) seen() string {
	if s.mode == "udp" {
		return "/mnt/state"
	}
	return s.StateDir
}

func (s *site) set(name, value string) {
	s.T.Helper()
	s.In(s.Pod.Namespace, "echo "+value+" >/proc/sys/"+strings.ReplaceAll(name, ".", "/"))
}

// renewed waits until the state says that the lease lasts longer than until then. Only the program knows when it next
// writes its state.
func (s *site) renewed(expires time.Time) {
	s.T.Helper()
	for deadline := time.Now().Add(podtest.Patience); !s.Status().Interfaces[0].Lease.Expires.After(expires); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.T.Fatalf("the lease that expires at %v is not renewed", expires)
		}
	}
}

// warned waits until the status has a warning with a text.
func (s *site) warned(text string) {
	s.T.Helper()
	s.Until(fmt.Sprintf("a warning says %q", text), func(r podtest.Report) bool {
		return strings.Contains(strings.Join(r.Interfaces[0].Warnings, "\n"), text)
	})
}

// serve starts the server and waits until it hears the guest.
func (s *site) serve(args ...string) *podtest.Process {
	s.T.Helper()
	p := s.start(args...)
	p.Says(`"msg":"serving"`)
	return p
}

// start starts the server. In UDP mode it is an ordinary user's, who may not read the record.
func (s *site) start(args ...string) *podtest.Process {
	s.T.Helper()
	args = append([]string{"serve", "--log-format", "json"}, args...)
	if s.mode == "packet" {
		return s.Start(args...)
	}
	return podtest.Start(s.T, "podnic serve", s.ordinary(context.Background(), args...))
}

// ordinary is a command of podnic that an ordinary user runs.
func (s *site) ordinary(ctx context.Context, args ...string) *exec.Cmd {
	s.T.Helper()
	script, err := filepath.Abs("testdata/ordinary")
	if err != nil {
		s.T.Fatal(err)
	}
	return s.Pod.Command(ctx, script, append([]string{fmt.Sprint(nobody), s.Podnic, s.StateDir}, args...)...)
}

// ordinaryStatus is what that user is told.
func (s *site) ordinaryStatus() podtest.Report {
	s.T.Helper()
	return podtest.ReadReport(s.T, podtest.Must(s.T, s.ordinary(s.T.Context(), "status", "-o", "json")))
}
