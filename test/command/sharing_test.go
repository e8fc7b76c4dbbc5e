package command

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestAndContainersAreThePod has a real guest at the pod's address, and beside it what containers do: a web server, a client
// of the pod network, and an exporter that asks the guest by 127.0.0.1.
func TestGuestAndContainersAreThePod(t *testing.T) {
	podtest.NeedRoot(t)
	image, err := guest.BuildWith(t.TempDir(), guest.Extra{Kernel: guest.UserKernel})
	if err != nil {
		t.Fatal(err)
	}
	node := podtest.Node(t)
	s := podtest.NewSite(t, node, pod.PTP)
	other := podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
	podtest.In(t, s.Pod.Namespace, "sysctl -qw 'net.ipv4.ip_local_port_range=28232 32767'")
	s.Remember()
	machine := guest.UserMode{Image: image, Directory: t.TempDir(), Tap: "$(PODNIC_TAP)", MAC: "$(PODNIC_MAC)"}
	p := boot(s, machine, "run", "--binding=shared", "--pod-ports=8080/tcp", "--guest-ports=80/tcp")

	address := s.Pod.Address.Addr()
	web := podtest.Listen(t, s.Pod.Namespace, netip.AddrPortFrom(netip.IPv4Unspecified(), 8080))
	go http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the container") })) //nolint:errcheck,gosec // until it is closed
	page := func(from *pod.Pod) string {
		t.Helper()
		conn, err := from.DialContext(t.Context(), "tcp", net.JoinHostPort(address.String(), "8080"))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(podtest.Patience))
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		text, _ := io.ReadAll(conn)
		return string(text)
	}
	s.Ready()
	if text := page(other); !strings.HasSuffix(text, "the container") {
		t.Errorf("from the other pod, at the kept port: %q", text)
	}
	client := guest.Client{Address: address, Dial: other.DialContext}
	if hello, err := client.Hello(t.Context()); err != nil || !strings.Contains(hello, "hello") {
		t.Errorf("from the other pod, at the guest's port: %q, %v", hello, err)
	}
	exporter := guest.Client{Address: netip.MustParseAddr("127.0.0.1"), Dial: s.Pod.DialContext}
	if hello, err := exporter.Hello(t.Context()); err != nil || !strings.Contains(hello, "hello") {
		t.Errorf("from a container, by 127.0.0.1: %q, %v", hello, err)
	}
	if out, err := client.Run(t.Context(), "busybox wget -q -O - http://169.254.75.10:8080/"); err != nil || !strings.Contains(out, "the container") {
		t.Errorf("from the guest, by the other address: %q, %v", out, err)
	}
	sink := podtest.Listen(t, other.Namespace, netip.AddrPortFrom(other.Address.Addr(), 514))
	go func() {
		for {
			conn, err := sink.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	for i := range 1000 {
		conn, err := s.Pod.DialContext(t.Context(), "tcp", sink.Addr().String())
		if err != nil {
			t.Errorf("connection %d of a container: %v", i, err)
			break
		}
		_, _ = conn.Read(make([]byte, 1)) // until the other end closes
		conn.Close()
	}
	if _, err := client.Run(t.Context(), "(usleep 100000; poweroff -f) >/dev/null 2>&1 &"); err != nil {
		t.Error(err)
	}
	p.Exits(0)
	web.Close()
	s.AsBefore()
}
