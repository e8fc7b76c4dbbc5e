package look

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

var update = flag.Bool("update", false, "write the golden drawings anew")

// volatile is what differs from run to run: counters, moments, how long things took, and which of these was the longest.
var volatile = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`in \S+  out \S+(  lost \S+)?`), "in N  out N"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d UTC`), "00:00:00 UTC"},
	{regexp.MustCompile(`(?m)^(  \S.{14}) .{10}( .{10})?(  longest: .*)?$`), "$1"},
	{regexp.MustCompile(`(  From the \w+'s start to the lease) .*\n(  .*\n)*`), "$1 …\n"},
}

// settled is a drawing without what is volatile. Only the rows of the timeline lose their numbers.
func settled(drawing string) string {
	head, timeline, found := strings.Cut(drawing, "\n  timeline")
	for _, v := range volatile[:2] {
		head = v.from.ReplaceAllString(head, v.to)
	}
	if !found {
		return head
	}
	timeline, remarks, _ := strings.Cut(timeline, "\n\n")
	for _, v := range volatile[2:] {
		timeline = v.from.ReplaceAllString(timeline+"\n", v.to)
		timeline = strings.TrimSuffix(timeline, "\n")
	}
	if remarks != "" {
		timeline += "\n\n" + remarks
	}
	return head + "\n  timeline" + timeline
}

// breaks are a healthy pod, and what people and programs do to one.
var breaks = []struct {
	name string
	// pod and node are shell scripts for their namespaces, do is what takes more.
	pod, node string
	do        func(*site)
	// says is how the break is named.
	says string
	// stays: prepare alone does not mend it.
	stays bool
}{
	{name: "healthy"},
	{name: "tap down", pod: "ip link set tap0 down", says: "tap0 is down"},
	{name: "bridge down", pod: "ip link set eth0-br down", says: "eth0-br is down"},
	{name: "NIC down", pod: "ip link set eth0-nic down", says: "eth0-nic is down"},
	{name: "bridge gone", pod: "ip link delete eth0-br", says: "eth0-br is missing"},
	{name: "tap gone", pod: "ip link delete tap0", do: (*site).serverDeaf, says: "tap0 is missing", stays: true},
	{name: "placeholder gone", pod: "ip link delete eth0", says: "eth0 is missing"},
	{name: "filter removed", pod: "nft delete table bridge podnic-eth0", says: "filter podnic-eth0 is missing"},
	{name: "filter emptied", pod: "nft flush chain bridge podnic-eth0 forward", says: "filter podnic-eth0 has other rules"},
	{name: "NIC out of the bridge", pod: "ip link set eth0-nic nomaster", says: "eth0-nic is not a port of eth0-br"},
	{name: "tap out of the bridge", pod: "ip link set tap0 nomaster", says: "tap0 is not a port of eth0-br"},
	{name: "MAC changed", pod: "ip link set eth0-nic address 0a:58:0a:f4:01:99", says: "eth0-nic has the MAC 0a:58:0a:f4:01:99, not "},
	{name: "MTU changed", pod: "ip link set eth0-nic mtu 1400", says: "eth0-nic has the MTU 1400, not 1500"},
	{name: "port learns", pod: "bridge link set dev tap0 learning on", says: "tap0 has port learning on, not off"},
	{name: "address put back", pod: "ip address add 10.244.1.5/24 dev eth0-nic", says: "eth0-nic has the address 10.244.1.5/24, which should not be on it"},
	{name: "address lost", pod: "ip address flush dev eth0", says: "eth0 lacks the address 10.244.1.5/24"},
	{name: "pod network down", node: "ip link set veth-vm down", says: "eth0-nic has no carrier", stays: true},
	{name: "server dead", do: (*site).killServer, says: "nobody serves eth0", stays: true},
	{name: "guest detached", do: func(s *site) { s.unplug() }, says: "the guest is not attached", stays: true},
}

// TestEveryBreakIsDrawnAndNamed compares the drawing of a pod that something was done to with the one in testdata. After
// prepare, nothing is marked any more, unless the break was not in the wiring.
func TestEveryBreakIsDrawnAndNamed(t *testing.T) {
	for _, test := range breaks {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, pod.Plain)
			s.serve()
			s.In(s.Pod.Namespace, test.pod)
			s.In(s.Node.Namespace, test.node)
			if test.do != nil {
				test.do(s)
			}
			// The bridge has the carrier of the NIC once the kernel has noticed that, which is up to the whole machine's links.
			if err := s.Pod.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			drawing := s.Must("status")
			if !strings.Contains(drawing, test.says) || strings.Contains(drawing, "✗") != (test.says != "") {
				t.Errorf("%q is not said", test.says)
			}
			golden(t, strings.ReplaceAll(test.name, " ", "-"), settled(drawing))
			s.graph()
			s.Must("prepare")
			if drawing := s.Must("status"); !test.stays && strings.Contains(drawing, "✗") {
				t.Errorf("after prepare:\n%s", drawing)
			}
		})
	}
}

// serverDeaf waits until the server has noticed that its socket is gone, of which only the status tells.
func (s *site) serverDeaf() {
	s.T.Helper()
	podtest.Until(s.T, "the server has noticed that the tap is gone", func() bool { return strings.Contains(s.Must("status"), "cannot hear the guest") })
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-update writes it anew):\n%s", file, diff)
	}
}

// graph has Graphviz read the graph, where there is Graphviz.
func (s *site) graph() {
	s.T.Helper()
	graph := s.Must("status", "-o", "dot")
	if !strings.HasPrefix(graph, "digraph podnic {\n") || !strings.HasSuffix(graph, "\n}\n") {
		s.T.Errorf("not a graph:\n%s", graph)
	}
	if _, err := exec.LookPath("dot"); err != nil {
		return
	}
	cmd := exec.Command("dot", "-Tsvg")
	cmd.Stdin = strings.NewReader(graph)
	if svg, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(svg), "<svg") {
		s.T.Errorf("dot: %v: %s\n%s", err, svg, graph)
	}
}

// TestDifferencesAreInJSON reads what is marked in a drawing from its JSON, with the warnings that a probe reads.
func TestDifferencesAreInJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	s.In(s.Pod.Namespace, "ip link set eth0-br mtu 1400")
	var report struct {
		Interfaces []struct {
			Links []struct {
				Role, Name string
				MTU        int
			}
			Differences []struct{ Where, What, Remedy string }
			Warnings    []string
		}
	}
	if err := json.Unmarshal([]byte(s.Must("status", "-o", "json")), &report); err != nil || len(report.Interfaces) != 1 {
		t.Fatal(err)
	}
	i := report.Interfaces[0]
	var mtus []int
	for _, l := range i.Links {
		mtus = append(mtus, l.MTU)
	}
	if diff := cmp.Diff([]int{1500, 1400, 1500, 1500}, mtus); diff != "" {
		t.Error(diff)
	}
	if len(i.Differences) != 1 || i.Differences[0].Where != "bridge" || i.Differences[0].What != "eth0-br has the MTU 1400, not 1500" {
		t.Errorf("differences: %+v", i.Differences)
	}
	if !strings.Contains(strings.Join(i.Warnings, "\n"), "eth0-br has the MTU 1400, not 1500: run `podnic prepare`") {
		t.Errorf("warnings: %q", i.Warnings)
	}
}

// TestWatchDrawsAgain changes a link while status watches, and interrupts it.
func TestWatchDrawsAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	cmd := s.Pod.Command(t.Context(), s.Podnic, "status", "--watch", "--state-dir", s.StateDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	expect := func(text string) {
		t.Helper()
		timeout := time.After(podtest.Patience)
		for {
			select {
			case line, ok := <-lines:
				if strings.Contains(line, text) {
					return
				}
				if !ok {
					t.Fatalf("status --watch ended and did not say %q", text)
				}
			case <-timeout:
				t.Fatalf("status --watch does not say %q", text)
			}
		}
	}
	expect("eth0: wired")
	s.In(s.Pod.Namespace, "ip link set tap0 down")
	expect("tap0 is down: run")
	s.Must("prepare")
	expect("eth0: wired")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range lines {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("status --watch: %v", err)
	}
}
