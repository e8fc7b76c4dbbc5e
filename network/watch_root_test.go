package network

import (
	"testing"
	"time"

	"github.com/podnic/podnic/test/podtest"
)

// TestWatchTellsOfEachChange makes changes of the kinds that status shows, one after the other.
func TestWatchTellsOfEachChange(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, "link set eth0 up", "node:link set host0 up")
	ns := p.namespace()
	for _, command := range []string{
		"addr add 10.244.1.5/24 dev eth0", "route add default via 10.244.1.1", "addr add fd00::5/64 dev eth0 nodad",
		"link set eth0 mtu 1400", "link add more type bridge", "link delete more", "node:link set host0 down",
	} {
		p.settle() // or what the kernel still does about the change before would be announced
		changed, stop, err := Watch(ns)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
			t.Errorf("before %q, something is announced", command)
		default:
		}
		p.ip(command)
		select {
		case <-changed:
		case <-time.After(podtest.Patience):
			t.Errorf("ip %s is not announced", command)
		}
		stop()
	}
}
