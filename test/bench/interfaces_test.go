package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// BenchmarkInterfacesRest is the memory that each further interface costs a server at rest: `podnic serve` of one, and of five.
func BenchmarkInterfacesRest(b *testing.B) {
	const more = 4
	podtest.NeedRoot(b)
	podnic := podtest.Program(b)
	p := podtest.Pod(b, podtest.Node(b), pod.Spec{Name: "vm", Network: pod.PTP})
	names := []string{"--interface", "eth0"}
	for i := 1; i <= more; i++ {
		name := fmt.Sprint("net", i)
		names = append(names, "--interface", name)
		run(b, p, "ip", "link", "add", name, "type", "veth", "peer", "name", name+"p")
		run(b, p, "ip", "address", "add", fmt.Sprintf("10.245.%d.5/24", i), "dev", name)
		run(b, p, "ip", "link", "set", name+"p", "up")
		run(b, p, "ip", "link", "set", name, "up")
	}
	rest := func(args ...string) float64 {
		dir := memoryDir(b)
		run(b, p, podnic, append([]string{"prepare", "--state-dir", dir}, args...)...)
		s := serve(b, p, podnic, dir)
		time.Sleep(3 * dhcpStart)
		anonymous := memory(b, s.cmd.Process.Pid, "Anonymous")
		s.end()
		run(b, p, podnic, "restore", "--state-dir", dir)
		return anonymous
	}
	var first, further []float64
	for b.Loop() {
		one := rest("--interface", "eth0")
		first, further = append(first, one), append(further, (rest(names...)-one)/more)
	}
	b.ReportMetric(middle(first), "first-B")
	b.ReportMetric(middle(further), "further-B")
}
