package dhcp

import (
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
)

// TestUDPSocketSaysWhatItsBridgeLacks opens the socket where one thing is missing, as it is on bridges that are not
// podnic's.
func TestUDPSocketSaysWhatItsBridgeLacks(t *testing.T) {
	const address = "address add " + ServerLinkLocal + "/32 dev eth0-br"
	for _, tt := range []struct {
		name, acceptLocal string
		bridge            []string
		want              string
	}{
		{"nothing", "1", []string{address}, ""},
		{"accept_local", "0", []string{address}, "net.ipv4.conf.all.accept_local is not 1"},
		{"the address", "1", nil, "eth0-br does not have the address 169.254.75.10"},
		{"ARP", "1", []string{address, "link set eth0-br arp off"}, "ARP is off on eth0-br"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			pod := newNetns(t)
			pod.ip(t, append([]string{"link add eth0-br type bridge", "link set eth0-br up"}, tt.bridge...)...)
			pod.sysctl(t, "net.ipv4.conf.all.accept_local", tt.acceptLocal)
			server, err := NewServer(Config{
				Offer: mustOffer(t, bridgePod(), Options{UDP: true}), Client: guestMAC, Link: "eth0-br", InNamespace: pod.do,
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
	g := newGuest(t, isolatedPod(), Options{UDP: true})
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
