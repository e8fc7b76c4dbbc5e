package network

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkInterfaces is what each further interface of one prepare costs, beside the first: a pod with eth0 as the ptp plugin
// makes it, and three more with an address and a route each. Both are measured in turn, since other work of the machine meets
// both alike.
func BenchmarkInterfaces(b *testing.B) {
	p := newTestPod(b, slices.Concat(shapes["ptp"], further("net1", "10.245.1"), further("net2", "10.245.2"), further("net3", "10.245.3"))...)
	p.settle()
	p.dir = tmpfs(b)
	prepared := func(names ...string) time.Duration {
		req := p.of(names...)
		began := time.Now()
		if _, err := PrepareAll(b.Context(), req); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		if _, err := RestoreAll(b.Context(), p.request(), false); err != nil {
			b.Fatal(err)
		}
		return took
	}
	var first, all []time.Duration
	measure := func(b *testing.B) {
		for len(first) < b.N {
			first, all = append(first, prepared("eth0")), append(all, prepared("eth0", "net1", "net2", "net3"))
		}
	}
	middle := func(times []time.Duration) float64 { return float64(slices.Sorted(slices.Values(times))[len(times)/2]) }
	b.Run("first", func(b *testing.B) {
		measure(b)
		b.ReportMetric(middle(first), "ns/op")
	})
	b.Run("further", func(b *testing.B) {
		measure(b)
		b.ReportMetric((middle(all)-middle(first))/3, "ns/op")
	})
}

func further(name, network string) []string {
	return []string{
		"link add " + name + " type veth peer name " + name + "p netns NODE", "addr add " + network + ".5/24 dev " + name,
		"link set " + name + " up", "node:link set " + name + "p up", "route add 172.16." + network[7:] + ".0/24 via " + network + ".1",
	}
}
