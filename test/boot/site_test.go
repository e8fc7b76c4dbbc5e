// Package boot tests that boot firmware behind podnic gets a network and a boot file: iPXE and UEFI's own client, as real
// guests in pods of each shape, with a TFTP and an HTTP server beyond the pod's gateway.
package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait. Emulated firmware takes some seconds on a quiet machine.
const patience = 180 * time.Second

// fileServer is where boot files are: an address behind the node, which pods reach by their gateway.
var fileServer = netip.MustParseAddr("203.0.113.7")

// site is a pod whose interface a guest's firmware gets, and the servers of boot files.
type site struct {
	t    *testing.T
	node *pod.Node
	pod  *pod.Pod
	// beyond is a namespace behind the node.
	beyond *pod.Namespace
	state  string
	files  map[string][]byte

	mu    sync.Mutex
	asked []string // "tftp NAME" or "http PATH"
	news  chan struct{}
}

// hostAddress is what Calico makes: a /32, and a gateway outside of every subnet.
var hostAddress = pod.Network{Scripts: pod.Scripts{
	Address: netip.MustParseAddr("10.244.1.5"),
	Node: `ip link set $LINK up
ip route add $ADDRESS dev $LINK
echo 1 >/proc/sys/net/ipv4/conf/$LINK/proxy_arp
echo 0 >/proc/sys/net/ipv4/neigh/$LINK/proxy_delay`,
	Pod: `ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1`,
}}

// newSite wires the pod and serves it.
func newSite(t *testing.T, network pod.Network, socket string, content map[string][]byte, flags ...string) *site {
	t.Helper()
	podtest.NeedRoot(t)
	s := &site{t: t, node: podtest.Node(t), files: content, news: make(chan struct{}), state: filepath.Join(t.TempDir(), "state")}
	files, err := s.node.AddNamespace("files")
	if err != nil {
		t.Fatal(err)
	}
	s.beyond = files
	s.in(s.node.Namespace, fmt.Sprintf(`ip link add files type veth peer name eth0 netns %s
ip address add 198.51.100.1/24 dev files
ip link set files up
ip route add default via 198.51.100.2`, files.Name)) // what proxy ARP answers for must be elsewhere
	s.in(files, fmt.Sprintf(`ip address add 198.51.100.2/24 dev eth0
ip address add %s/32 dev eth0
ip link set eth0 up
ip route add default via 198.51.100.1`, fileServer))
	s.pod = podtest.Pod(t, s.node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network})
	s.serveFiles()
	podnic := podtest.Program(t)
	if socket == "udp" {
		s.in(s.pod.Namespace, "echo 1 >/proc/sys/net/ipv4/conf/all/accept_local")
	}
	prepare := s.pod.Command(t.Context(), podnic, "prepare", "--state-dir", s.state, "--socket", socket)
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("prepare: %v: %s", err, out)
	}
	serve := append([]string{"serve", "--log-format", "json", "--state-dir", s.state}, flags...)
	s.advertise(network)
	s.start("podnic serve", s.pod.Command(context.Background(), podnic, serve...)).says(`"msg":"serving"`)
	s.start("podnic trace", s.pod.Command(context.Background(), podnic, "trace", "--state-dir", s.state))
	return s
}

// in runs a shell script in a namespace.
func (s *site) in(n *pod.Namespace, script string) {
	s.t.Helper()
	if _, err := n.Output(s.t.Context(), "sh", "-e", "-c", script); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) status(args ...string) string {
	s.t.Helper()
	cmd := s.pod.Command(s.t.Context(), podtest.Program(s.t), append([]string{"status", "--state-dir", s.state}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("status: %v: %s", err, out)
	}
	return string(out)
}

// start runs a program until the test ends, and shows what it said if the test failed.
func (s *site) start(name string, cmd *exec.Cmd) *speech {
	s.t.Helper()
	said := &speech{t: s.t, news: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, time.Second
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%.20000s", name, said.text.Bytes())
		}
	})
	return said
}

// speech is what a program says.
type speech struct {
	t    *testing.T
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{} // closed and replaced with each word
}

func (s *speech) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
	return s.text.Write(b)
}

// says waits for a text.
func (s *speech) says(text string) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		found, news := bytes.Contains(s.text.Bytes(), []byte(text)), s.news
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatalf("it does not say %q", text)
		}
	}
}

// advertise tells of a router without routes: iPXE waits for one before it goes on, 13 seconds where there is none.
func (s *site) advertise(network pod.Network) {
	s.t.Helper()
	link := s.pod.HostLink
	if network.Plugin == "bridge" {
		link = "cni0"
	}
	var conn *icmp.PacketConn
	err := s.node.Namespace.Do(func() (err error) {
		if conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::"); err != nil {
			return err
		}
		on, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		// RFC 4861 §6.1.2: from further away it would not be believed.
		return errors.Join(conn.IPv6PacketConn().SetMulticastHopLimit(255), conn.IPv6PacketConn().SetMulticastInterface(on))
	})
	if err != nil {
		s.t.Fatal(err)
	}
	message, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: make([]byte, 12)}}).Marshal(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var sending sync.WaitGroup
	sending.Go(func() {
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			_, _ = conn.WriteTo(message, &net.IPAddr{IP: net.IPv6linklocalallnodes}) // until there is an address to send from
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	})
	s.t.Cleanup(func() { stop(); sending.Wait(); conn.Close() })
}

// serveFiles answers TFTP and HTTP behind the node.
func (s *site) serveFiles() {
	s.t.Helper()
	var datagrams net.PacketConn
	err := s.beyond.Do(func() (err error) {
		datagrams, err = net.ListenPacket("udp4", netip.AddrPortFrom(fileServer, 69).String())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	files := tftp.NewServer(func(name string, to io.ReaderFrom) error {
		content, ok := s.file("tftp " + name)
		if !ok {
			return errors.New("no such file")
		}
		to.(tftp.OutgoingTransfer).SetSize(int64(len(content)))
		_, err := to.ReadFrom(bytes.NewReader(content))
		return err
	}, nil)
	files.EnableSinglePort() // it would open another socket in whatever namespace its thread is
	listener := podtest.Listen(s.t, s.beyond, netip.AddrPortFrom(fileServer, 80))
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := s.file("http " + r.URL.Path)
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(content)
	})}
	var both sync.WaitGroup
	both.Go(func() { _ = files.Serve(datagrams) })
	both.Go(func() { _ = web.Serve(listener) })
	s.t.Cleanup(func() {
		datagrams.Close()
		files.Shutdown()
		_ = web.Close()
		both.Wait()
	})
}

// file notes that a file is asked for, and returns it.
func (s *site) file(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	close(s.news)
	s.news = make(chan struct{})
	content, ok := s.files[name]
	return content, ok
}

// fetched waits until a file is asked for.
func (s *site) fetched(name string) {
	s.t.Helper()
	timeout := time.After(patience)
	for seen := 0; ; {
		s.mu.Lock()
		asked, news := s.asked[seen:], s.news
		seen = len(s.asked)
		s.mu.Unlock()
		for _, a := range asked {
			if a == name {
				return
			}
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatalf("%q was not fetched; these were: %q", name, s.asked)
		}
	}
}

// boot starts a guest without a disk on the pod's tap.
func (s *site) boot(f firmware) {
	s.t.Helper()
	mac, err := s.pod.Namespace.Output(s.t.Context(), "sh", "-c", "ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'")
	if err != nil {
		s.t.Fatal(err)
	}
	console := filepath.Join(s.t.TempDir(), "console")
	args := []string{
		"-machine", "pc,accel=tcg,graphics=off", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std",
		"-serial", "file:" + console, "-netdev", "tap,id=pod,ifname=tap0,script=no,downscript=no",
		"-device", f.card + ",netdev=pod,mac=" + strings.TrimSpace(mac) + ",bootindex=1",
	}
	for _, flash := range f.flash(s.t) {
		args = append(args, "-drive", "if=pflash,format=raw,"+flash)
	}
	s.start("qemu", s.pod.Command(context.Background(), "qemu-system-x86_64", args...))
	s.t.Cleanup(func() {
		if text, err := os.ReadFile(console); s.t.Failed() && err == nil {
			s.t.Logf("the console:\n%.20000s", text)
		}
	})
}
