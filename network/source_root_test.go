package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

// TestAddressIsTheOneThatThePodSendsFrom asks the kernel. Not every drawn address or route is one that it takes.
func TestAddressIsTheOneThatThePodSendsFrom(t *testing.T) {
	t.Parallel()
	addresses := []string{
		"10.244.1.5/24", "10.244.1.6/24", "10.244.1.7/25", "10.244.2.5/24", "10.244.2.6/32", "10.244.3.5 peer 10.244.3.9/32",
		"169.254.7.5/16 scope link", "10.244.2.7/32 scope link", "10.244.4.5/24 scope 200", "10.244.5.5/32 scope host",
		"10.244.1.8/24 preferred_lft 0", "10.244.6.5/24 preferred_lft 0", "10.244.7.5/24 valid_lft 3600 preferred_lft 1800",
	}
	routes := []string{
		"default via 10.244.1.1", "default via 10.244.1.1 src 10.244.1.6 metric 5", "default via 10.244.2.1 metric 10",
		"default dev eth0 scope link metric 20", "default via 10.244.3.9 metric 30", "default via 172.31.0.1 dev eth0 onlink metric 40",
		"default via inet6 fe80::1 dev eth0 metric 50", "default via 169.254.7.1 metric 3", "default via 10.244.7.1 metric 60",
		"default via 10.244.1.1 tos 0x10", "default dev eth0 src 10.244.5.5 metric 70",
		"default nexthop via 10.244.2.1 nexthop via 10.244.2.2 metric 80",
		"0.0.0.0/1 via 10.244.2.1 metric 7\nroute add 128.0.0.0/1 via 10.244.2.1",
	}
	p := newTestPod(t, "link set eth0 up", "node:link set host0 up")
	batch := filepath.Join(t.TempDir(), "commands")
	source := regexp.MustCompile(`dev eth0 .*src (\S+)`)
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		commands := "addr flush dev eth0\n"
		for _, a := range rapid.Permutation(addresses).Draw(t, "addresses")[:rapid.IntRange(1, 5).Draw(t, "address count")] {
			commands += fmt.Sprintf("addr add %s dev eth0\n", a)
		}
		for _, r := range rapid.Permutation(routes).Draw(t, "routes")[:rapid.IntRange(1, 4).Draw(t, "route count")] {
			commands += fmt.Sprintf("route add %s\n", r)
		}
		if err := os.WriteFile(batch, []byte(commands), 0o600); err != nil {
			t.Fatal(err)
		}
		p.run(p.pod, "ip", "-force", "-batch", batch) //nolint:errcheck // says what the kernel did not take
		out, _ := p.run(p.pod, "ip", "route", "get", "203.0.113.7")
		match := source.FindStringSubmatch(out)
		if match == nil {
			return // the pod reaches nobody, or by the loopback
		}
		req := p.request()
		req.Options.Interface = "eth0"
		seen, err := Inspect(req)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := seen.Identity()
		if want := netip.MustParseAddr(match[1]); id.V4.First().Prefix.Addr() != want {
			t.Fatalf("the guest would get %s, and the pod sends from %s\n%s%s%s", id.V4.First().Prefix, want, commands, p.ip("addr show dev eth0"), p.ip("route"))
		}
		compared++
	})
	if compared < 20 {
		t.Errorf("the kernel was asked %d times only", compared)
	}
	t.Logf("compared %d times", compared)
}
