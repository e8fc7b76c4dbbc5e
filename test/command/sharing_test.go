package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// Ports of the containers beside the guest. The exporter's is of localhost, and from outside the guest's.
const (
	webPort      = 8080
	exporterPort = 9100
)

// adds6 has the guest take an address. User-mode Linux makes no link-local one for its card; once it has one that nobody else
// has, it asks for routers.
const adds6 = `ip address add fe80::5/64 dev eth0 && ip address add %s/128 dev eth0
until ip -6 route show default | grep -q via; do usleep 50000; done`

// TestGuestAndContainersAreThePod has a real guest at the pod's addresses, and beside it what containers do, in both families: a
// web server on a kept port, a client of the pod network that connects a thousand times, and an exporter on localhost that asks
// the guest. The guest has all other ports, the exporter's too.
func TestGuestAndContainersAreThePod(t *testing.T) {
	podtest.NeedRoot(t)
	image, err := guest.BuildWith(t.TempDir(), guest.Extra{Kernel: guest.UserKernel})
	if err != nil {
		t.Fatal(err)
	}
	node := podtest.Node(t)
	s := podtest.NewSite(t, node, pod.PTP.Dual())
	other := podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP.Dual()})
	podtest.In(t, s.Pod.Namespace, "sysctl -qw 'net.ipv4.ip_local_port_range=28232 32767'")
	s.Remember()
	machine := guest.UserMode{Image: image, Directory: t.TempDir(), Tap: "$(PODNIC_TAP)", MAC: "$(PODNIC_MAC)"}
	p := boot(s, machine, "run", "--binding=shared", "--pod-ports=8080/tcp", "--guest-ports=80/tcp")
	s.Ready()

	web := serve(t, s.Pod, netip.AddrPortFrom(netip.IPv6Unspecified(), webPort), func() string { return "the container" })
	localhost := guest.Client{Address: netip.MustParseAddr("127.0.0.1"), Dial: s.Pod.DialContext}
	exporter := serve(t, s.Pod, netip.AddrPortFrom(localhost.Address, exporterPort), func() string {
		hello, err := localhost.Hello(t.Context())
		return fmt.Sprint("exported: ", hello, err)
	})
	fetches := func(who string, from *pod.Pod, at netip.AddrPort, want string) {
		t.Helper()
		if page, err := fetch(t.Context(), from, at); err != nil || !strings.HasPrefix(page, want) {
			t.Errorf("%s, from %s: %q, %v, and not %q", who, at, page, err, want)
		}
	}
	const hello = "hello from the guest"
	fetches("a container", s.Pod, netip.AddrPortFrom(localhost.Address, exporterPort), "exported: "+hello)

	addresses, others := []netip.Addr{s.Pod.Address.Addr(), s.Pod.Address6.Addr()}, []netip.Addr{other.Address.Addr(), other.Address6.Addr()}
	beside := []netip.Addr{netip.MustParseAddr("169.254.75.10"), netip.MustParseAddr("fd10:0:2::2")}
	inside := guest.Client{Address: addresses[0], Dial: other.DialContext}
	// It has no client of DHCPv6. Routes are the kernel's, of router advertisements.
	if out, err := inside.Run(t.Context(), fmt.Sprintf(adds6, addresses[1])); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, address := range addresses {
		fetches("the other pod", other, netip.AddrPortFrom(address, webPort), "the container")
		fetches("the other pod", other, netip.AddrPortFrom(address, 80), hello)
		fetches("a container", s.Pod, netip.AddrPortFrom(beside[i], 80), hello)
		if _, err := fetch(t.Context(), other, netip.AddrPortFrom(address, exporterPort)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the exporter's port at %s, which is the guest's, who has nobody there: %v", address, err)
		}
		page := netip.AddrPortFrom(beside[i], webPort)
		if out, err := inside.Run(t.Context(), fmt.Sprintf("busybox wget -q -O - http://%s/", page)); err != nil || out != "the container" {
			t.Errorf("the guest, from %s: %q, %v", page, out, err)
		}
	}
	if _, err := inside.Run(t.Context(), fmt.Sprintf("httpd -p %d -h /www", exporterPort)); err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		fetches("the other pod", other, netip.AddrPortFrom(address, exporterPort), hello)
	}
	fetches("a container", s.Pod, netip.AddrPortFrom(localhost.Address, exporterPort), "exported: "+hello)

	from := connected(t, s.Pod, other, others)
	for address, ports := range from {
		if !slices.Contains(addresses, address) || len(ports) != 500 || ports[0] < 28232 || ports[len(ports)-1] > 32767 {
			t.Errorf("%d connections come from %s, by the ports %v", len(ports), address, ports)
		}
	}
	if len(from) != len(addresses) {
		t.Errorf("connections come from %d addresses", len(from))
	}

	if _, err := inside.Run(t.Context(), "(usleep 100000; poweroff -f) >/dev/null 2>&1 &"); err != nil {
		t.Error(err)
	}
	p.Exits(0)
	web.Close()
	exporter.Close()
	s.AsBefore()
}

// serve has a process of a pod answer every request with what page says then.
func serve(t *testing.T, in *pod.Pod, at netip.AddrPort, page func() string) net.Listener {
	t.Helper()
	listener := podtest.Listen(t, in.Namespace, at)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:errcheck,gosec // until it is closed
		_, _ = io.WriteString(w, page())
	}))
	return listener
}

// fetch is the answer to a process of a pod.
func fetch(ctx context.Context, from *pod.Pod, at netip.AddrPort) (string, error) {
	client := &http.Client{Timeout: podtest.Patience, Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/hello", at), nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// connected has a process of a pod connect to another pod's addresses a thousand times in all, and says from which addresses,
// and from which ports in order.
func connected(t *testing.T, from, to *pod.Pod, at []netip.Addr) map[netip.Addr][]uint16 {
	t.Helper()
	const port = 514
	sink := podtest.Listen(t, to.Namespace, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	seen := make(map[netip.Addr][]uint16)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := sink.Accept()
			if err != nil {
				return
			}
			of := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
			seen[of.Addr().Unmap()] = append(seen[of.Addr().Unmap()], of.Port())
			conn.Close()
		}
	})
	for i := range 1000 {
		conn, err := from.DialContext(t.Context(), "tcp", netip.AddrPortFrom(at[i%len(at)], port).String())
		if err != nil {
			t.Errorf("connection %d of a container: %v", i, err)
			break
		}
		_ = conn.SetDeadline(time.Now().Add(podtest.Patience))
		_, _ = conn.Read(make([]byte, 1)) // until the other end closes
		conn.Close()
	}
	sink.Close()
	group.Wait()
	for _, ports := range seen {
		slices.Sort(ports)
	}
	return seen
}
