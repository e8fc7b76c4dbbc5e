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
	"path/filepath"
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
	*podtest.Site
	// beyond is a namespace behind the node.
	beyond *pod.Namespace
	files  map[string][]byte

	mu    sync.Mutex
	asked []string // "tftp NAME" or "http PATH"
	news  chan struct{}
}

// newSite wires the pod and serves it.
func newSite(t *testing.T, network pod.Network, socket string, content map[string][]byte, flags ...string) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	beyond, err := node.AddNamespace("files")
	if err != nil {
		t.Fatal(err)
	}
	podtest.In(t, node.Namespace, fmt.Sprintf(`ip link add files type veth peer name eth0 netns %s
ip address add 198.51.100.1/24 dev files
ip link set files up
ip route add default via 198.51.100.2`, beyond.Name)) // what proxy ARP answers for must be elsewhere
	podtest.In(t, beyond, fmt.Sprintf(`ip address add 198.51.100.2/24 dev eth0
ip address add %s/32 dev eth0
ip link set eth0 up
ip route add default via 198.51.100.1`, fileServer))
	s := &site{Site: podtest.NewSite(t, node, network), beyond: beyond, files: content, news: make(chan struct{})}
	s.serveFiles()
	if socket == "udp" {
		s.In(s.Pod.Namespace, "echo 1 >/proc/sys/net/ipv4/conf/all/accept_local")
	}
	s.Must("prepare", "--socket", socket)
	s.advertise(network)
	s.Serve(flags...)
	s.Start("trace")
	return s
}

// advertise tells of a router without routes: iPXE waits for one before it goes on, 13 seconds where there is none.
func (s *site) advertise(network pod.Network) {
	s.T.Helper()
	link := s.Pod.HostLink
	if network.Plugin == "bridge" {
		link = "cni0"
	}
	var conn *icmp.PacketConn
	err := s.Node.Namespace.Do(func() (err error) {
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
		s.T.Fatal(err)
	}
	message, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: make([]byte, 12)}}).Marshal(nil)
	if err != nil {
		s.T.Fatal(err)
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
	s.T.Cleanup(func() { stop(); sending.Wait(); conn.Close() })
}

// serveFiles answers TFTP and HTTP behind the node.
func (s *site) serveFiles() {
	s.T.Helper()
	var datagrams net.PacketConn
	err := s.beyond.Do(func() (err error) {
		datagrams, err = net.ListenPacket("udp4", netip.AddrPortFrom(fileServer, 69).String())
		return err
	})
	if err != nil {
		s.T.Fatal(err)
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
	listener := podtest.Listen(s.T, s.beyond, netip.AddrPortFrom(fileServer, 80))
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
	s.T.Cleanup(func() {
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
	s.T.Helper()
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
			s.T.Fatalf("%q was not fetched; these were: %q", name, s.asked)
		}
	}
}

// boot starts a guest without a disk on the pod's tap.
func (s *site) boot(f firmware) {
	s.T.Helper()
	console := filepath.Join(s.T.TempDir(), "console")
	args := []string{
		"-machine", "pc,accel=tcg,graphics=off", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std",
		"-serial", "file:" + console, "-netdev", "tap,id=pod,ifname=tap0,script=no,downscript=no",
		"-device", f.card + ",netdev=pod,mac=" + s.MAC.String() + ",bootindex=1",
	}
	for _, flash := range f.flash(s.T) {
		args = append(args, "-drive", "if=pflash,format=raw,"+flash)
	}
	podtest.Start(s.T, "qemu", s.Pod.Command(context.Background(), "qemu-system-x86_64", args...))
	s.T.Cleanup(func() {
		if text, err := os.ReadFile(console); s.T.Failed() && err == nil {
			s.T.Logf("the console:\n%.20000s", text)
		}
	})
}
