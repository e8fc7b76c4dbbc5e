package dhcp

import (
	"errors"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/podtest"
)

// TestUDPSocketSaysWhatItsBridgeLacks opens the socket where one thing is missing, as it is on bridges that are not
// podnic's.
func TestUDPSocketSaysWhatItsBridgeLacks(t *testing.T) {
	const address = "address add " + ServerLinkLocal + "/32 dev eth0-br"
	const elsewhere = "address add " + ServerLinkLocal + "/32 dev lo"
	const acceptLocal, arpIgnore = "net.ipv4.conf.all.accept_local", "net.ipv4.conf.all.arp_ignore"
	for _, tt := range []struct {
		name     string
		settings map[string]string // besides what is right
		bridge   []string
		lease    time.Duration
		want     string
	}{
		{"nothing", nil, []string{address}, 0, ""},
		{"accept_local", map[string]string{acceptLocal: "0"}, []string{address}, 0, "net.ipv4.conf.all.accept_local is not 1"},
		{"the address", nil, nil, 0, "no link has the address 169.254.75.10"},
		{"ARP", nil, []string{address, "link set eth0-br arp off"}, 0, "ARP is off on eth0-br"},
		{"address elsewhere", nil, []string{elsewhere}, time.Hour, ""},
		{"address elsewhere and ARP for it", map[string]string{arpIgnore: "1"}, []string{elsewhere}, time.Hour, "169.254.75.10 is an address of lo"},
		{"ARP that nobody needs", map[string]string{arpIgnore: "1"}, []string{elsewhere}, 0, ""},
		{"reverse path filter", map[string]string{"net.ipv4.conf.eth0-br.rp_filter": "2"}, []string{elsewhere}, 0, "net.ipv4.conf.eth0-br.rp_filter is 2"},
		{"reverse path filter where it does no harm", map[string]string{"net.ipv4.conf.eth0-br.rp_filter": "2"}, []string{address}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			pod := newNetns(t)
			pod.ip(t, append([]string{"link add eth0-br type bridge", "link set eth0-br up"}, tt.bridge...)...)
			settings := map[string]string{acceptLocal: "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth0-br.rp_filter": "0"}
			maps.Copy(settings, tt.settings)
			for name, value := range settings {
				pod.sysctl(t, name, value)
			}
			server, err := NewServer(Config{
				Offer: mustOffer(t, bridgePod(), Settings{UDP: true, LeaseTime: tt.lease}), Client: guestMAC, Link: "eth0-br", InNamespace: pod.do,
				Log: zaptest.NewLogger(t),
			})
			if err != nil {
				t.Fatal(err)
			}
			serve(t, server)
			got := strings.Join(server.Warnings(), "\n")
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || strings.Contains(got, "\n") {
				t.Errorf("warnings %q, want one that says %q", got, tt.want)
			}
		})
	}
}

// TestUDPServerOutlivesItsBridge takes the bridge down and up, and then away.
func TestUDPServerOutlivesItsBridge(t *testing.T) {
	t.Parallel()
	g := newGuest(t, isolatedPod(), Settings{UDP: true})
	raw := g.listen(t)
	number := byte(0)
	answered := func() {
		t.Helper()
		number++
		transmit(t, raw, discoverNumber(number))
		for e := g.wait(t, KindOffer, ""); e.Transaction != uint32(number); e = g.wait(t, KindOffer, "") {
		}
	}
	answered()
	g.pod.ip(t, "link set eth0-br down", "link set eth0-br up")
	answered()
	g.pod.ip(t, "link delete eth0-br")
	if e := g.wait(t, KindSocketLost, ""); e.Detail != "receive on eth0-br: the link is gone" {
		t.Errorf("lost: %s", e.Detail)
	}
	g.pod.ip(t, "link add eth0-br type bridge", "address add "+ServerLinkLocal+"/32 dev eth0-br", "link set eth0-br up",
		"link set tap0 master eth0-br")
	g.wait(t, KindSocketOpen, "")
	answered()
}

// TestUDPServerBesideOneOfAllDevices shares the port with a server as KubeVirt's: one that has the port of all devices, with
// SO_REUSEADDR, and passes over what comes from others than its own. Whichever was there first, both can be had, and what is
// sent to this server's address reaches no other.
func TestUDPServerBesideOneOfAllDevices(t *testing.T) {
	for _, first := range []string{"this server", "the other"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			var g *guest
			var other net.PacketConn
			open := func(pod *netns) {
				t.Helper()
				config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
					failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
					return errors.Join(failed, err)
				}}
				err := pod.do(func() (err error) {
					other, err = config.ListenPacket(t.Context(), "udp4", ":67")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { other.Close() })
			}
			if first == "the other" {
				g = newGuestIn(t, isolatedPod(), Settings{UDP: true}, open)
			} else {
				g = newGuest(t, isolatedPod(), Settings{UDP: true})
				open(g.pod)
			}
			raw := g.listen(t)
			transmit(t, raw, discoverNumber(1))
			if e := g.wait(t, KindOffer, ""); e.Transaction != 1 {
				t.Errorf("transaction %d was answered", e.Transaction)
			}
			// A datagram from outside of the bridge is the other's alone.
			const text = "for the other"
			if err := g.pod.do(func() error {
				conn, err := net.Dial("udp4", "127.0.0.1:67")
				if err != nil {
					return err
				}
				_, err = conn.Write([]byte(text))
				return errors.Join(err, conn.Close())
			}); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 1500)
			for {
				if err := other.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
					t.Fatal(err)
				}
				n, _, err := other.ReadFrom(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if string(buffer[:n]) == text {
					return // before it the guest's broadcast, which it knows to be none of its own by the link
				}
			}
		})
	}
}
