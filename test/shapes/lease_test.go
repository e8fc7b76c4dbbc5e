package shapes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestPodKeepsItsOwnLease has the real macvlan plugin with the real dhcp plugin, whose daemon renews the pod's lease in the pod's
// namespace as long as the guest has the link. Where it could not, it would set the link down. A lease of seconds ends several
// times; the soak has one of a minute, for three.
func TestPodKeepsItsOwnLease(t *testing.T) {
	podtest.NeedRoot(t)
	lease, renewals := 8*time.Second, 3
	if os.Getenv("PODNIC_SOAK") != "" {
		lease, renewals = time.Minute, 6 // at half of it (RFC 2131, 4.4.5)
	}
	for _, binding := range []string{"redirect", podtest.ByTC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			daemon, network := dhcpDaemon(t) // before the node, which asks it when it goes
			node := podtest.Node(t)
			if err := node.AddUplink(t.Context()); err != nil {
				t.Fatal(err)
			}
			udhcpd(t, node.Namespace, fmt.Sprintf(`interface gateway
start 10.244.3.50
end 10.244.3.50
option subnet 255.255.255.0
option router 10.244.3.1
option lease %v
min_lease 1
`, lease.Seconds()))
			s := &site{Site: podtest.NewSite(t, node, network), unplug: func() {}}
			s.guest = s.Guest()
			s.Remember()
			s.Must("prepare", s.Bind(binding))
			server := s.Serve()
			s.plug()
			client := s.lease("udhcpc")
			before := strings.Count(daemon.Text(), "lease renewed")
			for range before + renewals {
				daemon.Says("lease renewed")
			}
			if text := daemon.Text(); strings.Contains(text, "rebinding") || strings.Contains(text, "DOWN") {
				t.Errorf("the pod's lease was not renewed at once:\n%s", text)
			}
			if r := s.Ready(); r.Interfaces[0].Lease.Address != s.Pod.Address.Addr() || s.Pod.Address.String() != "10.244.3.50/24" {
				t.Errorf("the guest of the pod %s: %+v", s.Pod.Address, r.Interfaces[0])
			}
			s.ping(s.guest, "10.244.3.1", 1500)
			client.End(syscall.SIGTERM)
			if status := server.End(syscall.SIGTERM); status != 0 {
				t.Errorf("podnic serve: exit status %d", status)
			}
			s.restored()
			s.ping(s.Pod.Namespace, "10.244.3.1", 1500)
		})
	}
}

// dhcpDaemon runs the daemon of the dhcp plugin, and returns it with a network whose pods have their addresses by it.
func dhcpDaemon(t *testing.T) (*podtest.Process, pod.Network) {
	t.Helper()
	program, err := cache.Need("make cni", "cni", "dhcp")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "socket")
	daemon := podtest.Start(t, "the dhcp plugin's daemon", exec.Command(program, "daemon", "-socketpath", socket, "-timeout", "2s"))
	for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the dhcp plugin's daemon does not listen")
		}
	}
	network := pod.Macvlan
	network.IPAM = map[string]any{"type": "dhcp", "daemonSocketPath": socket}
	return daemon, network
}
