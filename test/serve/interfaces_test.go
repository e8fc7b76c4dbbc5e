package serve

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// TestOneServerServesWhatIsWiredMeanwhile has a guest with two cards. The second interface is wired while the server runs and
// the first guest's lease lasts, has a lease and renews it with its own server, and is restored again: the first one never
// notices. What is of the whole machine is told on the interface with the default route alone.
func TestOneServerServesWhatIsWiredMeanwhile(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			s.In(s.Node.Namespace, "ip link add other type veth peer name net1 netns "+s.Pod.Name+
				"\nip address add 198.51.100.1/24 dev other\nip link set other up")
			const mac, address = "0a:58:c6:33:64:07", "198.51.100.7"
			s.In(s.Pod.Namespace, "ip link set net1 address "+mac+"\nip address add "+address+"/24 dev net1\nip link set net1 up\n"+
				"ip route add 203.0.113.0/24 via 198.51.100.1")
			server := s.serve("--lease-time", leaseTime.String())
			eth0, udhcpc := s.plug(), clients[0]
			e := shapes[0].expect(s)
			first := eth0.run(udhcpc, e)
			first.sees(udhcpc.bound, udhcpc.view(e))
			first.forget("deconfig")

			s.Must("prepare", "--interface", "net1", "--socket", mode)
			server.Says("an interface was wired meanwhile")
			server.Says(`"msg":"serving"`)
			net1 := s.plugInto("tap1", mac)
			e1 := expectation{address: address, server: serverLinkLocal, bits: 24, routes: [][2]string{
				{serverLinkLocal + "/32", "0.0.0.0"}, {"203.0.113.0/24", "198.51.100.1"},
			}}
			second := net1.run(udhcpc, e1)
			view := second.sees(udhcpc.bound, []string{
				"ip=" + address, "mask=24", "serverid=" + serverLinkLocal, fmt.Sprint("lease=", leaseTime.Seconds()), "staticroutes=" + e1.words(),
			})
			for _, line := range view {
				if name, _, _ := strings.Cut(line, "="); slices.Contains([]string{"dns", "hostname", "search", "domain", "router"}, name) {
					t.Errorf("the second interface tells %s", line)
				}
			}
			var r struct {
				Phase      string
				Interfaces []struct{ Name, Phase, Tap string }
			}
			out := s.Must("status", "-o", "json", "--wait", "ready", "--timeout", podtest.Patience.String())
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.Phase != "ready" || fmt.Sprint(r.Interfaces) != "[{eth0 ready tap0} {net1 ready tap1}]" {
				t.Errorf("%v: %+v", err, r)
			}
			// Each renews with its own server.
			first.sees(udhcpc.renewed, udhcpc.view(e))
			second.sees(udhcpc.renewed, []string{"ip=" + address, "serverid=" + serverLinkLocal})
			for _, c := range []struct {
				*cable
				address string
			}{{eth0, e.address}, {net1, address}} {
				if all := strings.Join(c.conversation(), "\n"); !strings.Contains(all, "guest REQUEST to one, has "+c.address) || strings.Contains(all, "NAK") {
					t.Errorf("the renewal of %s:\n%s", c.address, all)
				}
			}

			s.Must("restore", "--interface", "net1", "--force")
			server.Says("the interface was given back")
			first.never("deconfig")
			if out := s.Must("status"); !strings.HasPrefix(out, "eth0: ready") || strings.Contains(out, "net1:") {
				t.Errorf("after net1 was restored:\n%s", out)
			}
			if files := podtest.Files(t, filepath.Join(s.StateDir, "net1")); len(files) > 0 {
				t.Errorf("left of net1: %q", files)
			}
			if status := server.End(syscall.SIGTERM); status != 0 {
				t.Errorf("podnic serve: exit status %d", status)
			}
		})
	}
}
