package pod_test

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestShape holds the pods to what the design says real ones look like.
func TestShape(t *testing.T) {
	podtest.NeedRoot(t)
	for _, test := range []struct {
		network pod.Network
		mtu     string
		routes  string
	}{
		{pod.PTP, "mtu 1500", `
default via 10.244.1.1 dev eth0
10.244.1.0/24 via 10.244.1.1 dev eth0 src 10.244.1.2
10.244.1.1 dev eth0 scope link src 10.244.1.2
`},
		{pod.Bridge.WithMTU(1400), "mtu 1400", `
default via 10.244.2.1 dev eth0
10.244.2.0/24 dev eth0 proto kernel scope link src 10.244.2.2
`},
	} {
		t.Run(test.network.Plugin, func(t *testing.T) {
			p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: test.network})
			if got := output(t, p.Namespace, "ip", "-o", "link", "show", "eth0"); !strings.Contains(got, test.mtu+" ") {
				t.Errorf("eth0 lacks %q: %s", test.mtu, got)
			}
			if got := output(t, p.Namespace, "ip", "-o", "address", "show", "eth0"); !strings.Contains(got, " "+p.Address.String()+" ") {
				t.Errorf("eth0 lacks the address %s of the result: %s", p.Address, got)
			}
			got := strings.ReplaceAll(output(t, p.Namespace, "ip", "route"), " \n", "\n")
			if diff := cmp.Diff(strings.TrimPrefix(test.routes, "\n"), got); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			if want := test.network.Subnet.Addr().Next(); p.Gateway != want {
				t.Errorf("gateway %s, want %s", p.Gateway, want)
			}
		})
	}
}

func TestPodsReachEachOtherAndTheirNode(t *testing.T) {
	podtest.NeedRoot(t)
	for _, network := range []pod.Network{pod.PTP, pod.Bridge} {
		t.Run(network.Plugin, func(t *testing.T) {
			node := podtest.Node(t)
			server := podtest.Pod(t, node, pod.Spec{Name: "server", Network: network})
			client := podtest.Pod(t, node, pod.Spec{Name: "client", Network: network})
			output(t, client.Namespace, "ping", "-c1", "-W2", client.Gateway.String())
			listenAndDial(t, server, client)
			output(t, node.Namespace, "ip", "link", "show", server.HostLink)
		})
	}
}

func listenAndDial(t *testing.T, server, client *pod.Pod) {
	t.Helper()
	const port = 8080
	listener := podtest.Listen(t, server.Namespace, netip.AddrPortFrom(server.Address.Addr(), port))
	go func() {
		if conn, err := listener.Accept(); err == nil {
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	conn, err := client.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v; want hello", got, err)
	}
}

func TestCommandSeesThePod(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{
		Name: "vm", Network: pod.PTP, Hostname: "vm-0", Resolver: "nameserver 10.96.0.10\n",
	})
	got, err := p.Command(t.Context(), "sh", "-c", "hostname; cat /etc/resolv.conf; ls /sys/class/net | xargs").Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("vm-0\nnameserver 10.96.0.10\neth0 lo\n", string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommandIsTheProgram(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	err := p.Command(t.Context(), "sh", "-c", "kill -TERM $$").Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.String() != "signal: terminated" {
		t.Errorf("ended with %v, want the program's own signal", err)
	}
}

func TestStateShowsChangesAndNothingElse(t *testing.T) {
	podtest.NeedRoot(t)
	for _, network := range []pod.Network{pod.PTP, pod.Bridge} {
		t.Run(network.Plugin, func(t *testing.T) {
			p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: network})
			output(t, p.Namespace, "ip", "address", "add", "203.0.113.9/32", "dev", "eth0", "valid_lft", "3600", "preferred_lft", "1800")
			before := podtest.State(t, p.Namespace)
			output(t, p.Namespace, "ping", "-c1", "-W2", p.Gateway.String())
			if diff := before.Diff(podtest.State(t, p.Namespace)); diff != "" {
				t.Errorf("a ping changed the state:\n%s", diff)
			}
			for _, change := range []string{
				"ip link set eth0 txqueuelen 7",
				"ip address change 203.0.113.9/32 dev eth0 valid_lft 3500 preferred_lft 1700",
				"ip route add 203.0.113.0/24 dev eth0 table 77",
				"ip neighbour add 203.0.113.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent",
				"ip rule add from 203.0.113.1 lookup 77",
				"nft add table bridge podnic",
				"echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_ignore",
			} {
				before := podtest.State(t, p.Namespace)
				output(t, p.Namespace, "sh", "-c", change)
				if before.Diff(podtest.State(t, p.Namespace)) == "" {
					t.Errorf("%s: no difference", change)
				}
			}
		})
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	p := podtest.Pod(t, node, pod.Spec{Name: "vm", Network: pod.Bridge})
	// A program that nobody ends.
	if err := p.Command(context.Background(), "sleep", "600").Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := node.Leftovers(); len(left) > 0 {
		t.Errorf("left: %s", strings.Join(left, ", "))
	}
}

func TestAddPodThatFailsLeavesNothing(t *testing.T) {
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	full := pod.PTP
	full.Subnet = netip.MustParsePrefix("10.244.9.0/30") // room for the gateway and one pod
	podtest.Pod(t, node, pod.Spec{Name: "one", Network: full})
	before := podtest.State(t, node.Namespace)
	if _, err := node.AddPod(t.Context(), pod.Spec{Name: "two", Network: full}); err == nil {
		t.Fatal("a second pod in a range for one")
	}
	if _, err := os.Stat("/run/netns/" + node.Name + "-two"); !os.IsNotExist(err) {
		t.Errorf("the namespace of the failed pod: %v", err)
	}
	if diff := before.Diff(podtest.State(t, node.Namespace)); diff != "" {
		t.Errorf("the node changed:\n%s", diff)
	}
}

func TestDoRefusesTheMachinesNamespace(t *testing.T) {
	podtest.NeedRoot(t)
	own := pod.Namespace{Name: "own", Path: "/proc/self/ns/net"}
	err := own.Do(func() error { t.Error("ran"); return nil })
	if err == nil || !strings.Contains(err.Error(), "machine's own") {
		t.Errorf("error %v", err)
	}
}

func output(t *testing.T, n *pod.Namespace, name string, args ...string) string {
	t.Helper()
	out, err := n.Output(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
