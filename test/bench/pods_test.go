package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// plain is a pod network that is made quickly: no plugin, and no IPv6, whose duplicate address detection takes seconds.
var plain = pod.Network{MTU: 1200, Scripts: pod.Scripts{
	Address: netip.MustParseAddr("10.244.1.5"),
	Node:    "ip link set $LINK up",
	Pod:     "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up\nip route add default via 10.244.1.1",
}}

// BenchmarkPods has 1 to 300 pods on the machine. Time: podnic prepare and podnic serve, until it hears the guest, the
// median of the pods. Memory: of all servers together, where what they share counts once (PSS). dnsmasq is measured in pods
// that nobody wired, and so has less to do.
func BenchmarkPods(b *testing.B) {
	podtest.NeedRoot(b)
	need(b, "dnsmasq")
	podnic := podtest.Program(b)
	node := podtest.Node(b)
	var pods []*pod.Pod
	dir := memoryDir(b)
	state := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for _, n := range []int{1, 10, 100, 300} {
		for i := len(pods); i < n; i++ {
			pods = append(pods, podtest.Pod(b, node, pod.Spec{Name: fmt.Sprint("p", i), Network: plain}))
			if err := os.Mkdir(state(i), 0o700); err != nil {
				b.Fatal(err)
			}
		}
		rounds := (20 + n - 1) / n // at least 20 runs
		b.Run(fmt.Sprintf("%d/podnic", n), func(b *testing.B) {
			var times []time.Duration
			var total float64
			for range rounds {
				servers := make([]*server, n)
				for i := range n {
					began := time.Now()
					run(b, pods[i], podnic, "prepare", "--state-dir", state(i))
					servers[i] = serve(b, pods[i], podnic, state(i))
					times = append(times, time.Since(began))
				}
				time.Sleep(time.Second) // a server gives back what its start took when it has run for a moment
				total = 0
				for _, s := range servers {
					total += memory(b, s.cmd.Process.Pid, "Pss")
				}
				for i, s := range servers {
					s.end()
					run(b, pods[i], podnic, "restore", "--state-dir", state(i))
				}
			}
			median(b, times)
			b.ReportMetric(total, "all-B")
		})
		b.Run(fmt.Sprintf("%d/dnsmasq", n), func(b *testing.B) {
			pids := make([]int, n)
			var total float64
			for i := range n {
				mac := strings.ToLower(fmt.Sprintf("0a:58:0a:f4:01:%02x", 5))
				pids[i] = dnsmasqIn(b, pods[i], "eth0", mac, "10.244.1.5", "255.255.255.0", "10.244.1.1", state(i))
			}
			for _, pid := range pids {
				total += memory(b, pid, "Pss")
			}
			endAll(b, pids...)
			b.ReportMetric(total, "all-B")
		})
	}
}
