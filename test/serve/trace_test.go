package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/podtest"
)

// trace starts podnic trace and waits until it listens.
func (s *site) trace(args ...string) *podtest.Process {
	s.T.Helper()
	d := podtest.Start(s.T, "podnic trace", s.traceCommand(args...))
	d.Says("tracing tap0")
	return d
}

func (s *site) traceCommand(args ...string) *exec.Cmd {
	return s.Pod.Command(context.Background(), s.Podnic, append([]string{"trace", "--state-dir", s.StateDir}, args...)...)
}

// arping has the guest ask for an address.
func (c *cable) arping(s *site, target string) {
	c.t.Helper()
	// It is answered or not; what counts is that it asks.
	s.In(c.guest, "busybox arping -q -c 1 -w 1 -I eth0 "+target+" || true")
}

// traced is a trace as text that does not depend on time and chance: every line once, in the order of their coming.
func (s *site) traced(lines []string, protocol string) []string {
	transactions := map[string]string{}
	clean := []struct {
		pattern *regexp.Regexp
		by      func(string) string
	}{
		{regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6}`), func(string) string { return "TIME" }},
		{regexp.MustCompile(s.MAC.String()), func(string) string { return "GUEST-MAC" }},
		{regexp.MustCompile(`fe80::[0-9a-f:]+`), func(string) string { return "LINK-LOCAL" }},
		{regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`), func(string) string { return "MAC" }},
		{regexp.MustCompile(`\b[0-9a-f]{8}\b`), func(xid string) string {
			if transactions[xid] == "" {
				transactions[xid] = fmt.Sprintf("XID-%d", len(transactions)+1)
			}
			return transactions[xid]
		}},
	}
	var all []string
	for _, line := range lines {
		if !strings.Contains(line, "guest ") || !strings.Contains(line, " "+protocol+" ") {
			continue
		}
		for _, c := range clean {
			line = c.pattern.ReplaceAllStringFunc(line, c.by)
		}
		if !slices.Contains(all, line) { // a client that is kept waiting asks again
			all = append(all, line)
		}
	}
	return all
}

// TestTraceTellsAnExchange follows a client that remembers another network: it is refused, gets its lease, and looks for
// its neighbours. The lines are those of testdata/trace, and tcpdump reads the same frames in the capture.
func TestTraceTellsAnExchange(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			s.serve("--lease-time", "1h")
			capture := filepath.Join(t.TempDir(), "capture.pcapng")
			trace := s.trace("--write", capture)
			e := shapes[0].expect(s)
			cable := s.plug()
			dhclient := clients[1]
			guest := cable.run(dhclient, e)
			trace.Says("DHCP ACK")
			guest.sees(dhclient.bound, nil)
			s.In(cable.guest, "ping -c 1 -W 90 "+e.gateway)
			if mode == "udp" {
				s.In(cable.guest, "ping -c 1 -W 1 "+e.server+" || true") // the kernel answers its ARP, and no echo
			}
			trace.Says("ND   RS")
			if status := trace.End(syscall.SIGINT); status != 0 {
				t.Errorf("podnic trace: exit status %d", status)
			}
			// In UDP mode the first message may come before the bridge forwards, and then a line says that it is not answered.
			lines := slices.DeleteFunc(trace.Lines(), func(l string) bool { return strings.Contains(l, "may not have heard it") })
			if last := lines[len(lines)-1]; !strings.HasSuffix(last, "; interrupted") || strings.Contains(last, "lost") {
				t.Errorf("the last line is %q", last)
			}
			dhcp := s.traced(lines, "DHCP")
			want, err := os.ReadFile(filepath.Join("testdata", "trace", mode+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), dhcp); diff != "" {
				t.Errorf("DHCP (-want +got):\n%s", diff)
			}
			arp, nd := s.traced(lines, "ARP"), s.traced(lines, "ND")
			wantARP := []string{
				"TIME  guest → all      ARP  who has " + e.gateway + "? tell " + e.address + ", left to the pod network",
				"TIME  guest ← network  ARP  " + e.gateway + " is at MAC",
			}
			if mode == "udp" {
				wantARP = append(wantARP, "TIME  guest → all      ARP  who has "+e.server+"? tell "+e.address, "TIME  guest ← server   ARP  "+e.server+" is at MAC")
			}
			for _, line := range wantARP {
				if !slices.Contains(arp, line) {
					t.Errorf("ARP: %q is not among\n%s", line, strings.Join(arp, "\n"))
				}
			}
			for _, line := range []string{
				"TIME  guest → all      ND   NS does anybody have LINK-LOCAL", "TIME  guest → all      ND   RS from LINK-LOCAL, sender at GUEST-MAC",
			} {
				if !slices.Contains(nd, line) {
					t.Errorf("ND: %q is not among\n%s", line, strings.Join(nd, "\n"))
				}
			}
			s.compareCapture(capture, lines)
		})
	}
}

// compareCapture checks that tcpdump finds in the capture what the lines tell.
func (s *site) compareCapture(path string, lines []string) {
	s.T.Helper()
	out, err := exec.Command("tcpdump", "-nn", "-r", path).Output()
	if err != nil {
		s.T.Fatalf("tcpdump: %v", err)
	}
	for ours, theirs := range map[string]string{
		"guest → all      DHCP": "BOOTP/DHCP, Request", "guest ← server   DHCP": "BOOTP/DHCP, Reply",
		" ARP  who has": "ARP, Request who-has", " ND   NS": "neighbor solicitation", " ND   RS": "router solicitation",
	} {
		told := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, ours) }))
		if read := strings.Count(string(out), theirs); read != told || told == 0 {
			s.T.Errorf("%d lines tell %q, and tcpdump reads %d of %q in\n%s", told, ours, read, theirs, out)
		}
	}
}

// TestTraceTellsWhyNobodyAnswers has a guest that asks before there is a server, and one whose frames have a tag.
func TestTraceTellsWhyNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	capture := filepath.Join(t.TempDir(), "capture.pcapng")
	trace := s.trace("-o", "json", "--write", capture)
	cable := s.plug()
	mac := s.MAC
	frame := wire.Request(mac, 0xc0ffee01, wire.Discover...)
	cable.mark(frame)
	trace.Says(`"message":"no OFFER to DISCOVER","transaction":"c0ffee01","why":"nobody serves eth0`)
	cable.mark(slices.Insert(slices.Clone(frame), 12, 0x81, 0, 0x60, 5))
	trace.Says(`"vlan":5`)
	if status := trace.End(syscall.SIGTERM); status != 0 {
		t.Errorf("podnic trace: exit status %d", status)
	}
	tagged := false
	for _, line := range trace.Lines() {
		var f struct {
			Protocol, Message, Why string
			VLAN, Length           int
		}
		if !strings.HasPrefix(line, "{") {
			continue // on standard error
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Protocol == "" || f.Message == "" {
			t.Errorf("%v: %s", err, line)
		}
		if f.VLAN == 5 {
			tagged = f.Length == len(frame)+4 && strings.Contains(f.Why, "VLAN 5")
		}
	}
	if !tagged {
		t.Errorf("the tagged frame is not told as it was:\n%s", trace.Text())
	}
	if out, err := exec.Command("tcpdump", "-nn", "-e", "-r", capture).Output(); err != nil || !strings.Contains(string(out), "vlan 5, p 3") {
		t.Errorf("tcpdump does not find the tag: %v:\n%s", err, out)
	}
}

// TestTraceEnds takes each way in which a trace ends, and looks at the status, the word, and the namespace.
func TestTraceEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	s.serve()
	cable := s.plug()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	read, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	read.Close()
	for _, test := range []struct {
		name   string
		args   []string
		out    *os.File
		status int
		last   string
		quiet  bool // it ends without a frame
	}{
		{name: "count", args: []string{"--count", "1"}, last: "1 frames in .*the count is reached"},
		{name: "time", args: []string{"--for", "1ms"}, last: "the time is up", quiet: true},
		{name: "full disk", out: full, status: 1, last: "podnic: write the trace: .*no space left on device"},
		{name: "full disk, JSON", args: []string{"-o", "json"}, out: full, status: 1, last: "podnic: write the trace: .*no space left on device"},
		{name: "the reader is gone", out: gone, status: 1, last: "podnic: write the trace: .*broken pipe"},
		{name: "capture on a full disk", args: []string{"--write", "/dev/full"}, status: 1, last: "podnic: write the capture: .*no space left on device", quiet: true},
		{name: "no such directory", args: []string{"--write", "/nowhere/capture"}, status: 2, last: "podnic: the capture cannot be written: .*/nowhere/capture", quiet: true},
		{name: "negative", args: []string{"--count", "-1"}, status: 2, last: "--count", quiet: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := s.traceCommand(test.args...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if test.out != nil {
				cmd.Stdout = test.out
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			for len(done) == 0 && !test.quiet {
				cable.arping(s, "10.244.2.1") // as often as it takes until somebody listens
			}
			err := <-done
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
			last := lines[len(lines)-1]
			if got := cmd.ProcessState.ExitCode(); got != test.status || !regexp.MustCompile(test.last).MatchString(last) || len(lines) > 2 {
				t.Errorf("exit status %d: %s", got, errs.String())
			}
		})
	}
	if out := s.Must("prepare"); !strings.Contains(out, "as it should be") {
		t.Errorf("tracing changed the wiring: %s", out)
	}
}

// TestTraceNeedsATapAndACapability takes both away, the tap also from under a trace.
func TestTraceNeedsATapAndACapability(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	refused := func(cmd *exec.Cmd, words ...string) {
		t.Helper()
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 2 || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %s", err, out)
		}
		for _, word := range words {
			if !strings.Contains(string(out), word) {
				t.Errorf("it does not say %q: %s", word, out)
			}
		}
	}
	refused(s.Pod.Command(t.Context(), "setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", s.Podnic, "trace", "--state-dir", s.StateDir),
		"CAP_NET_RAW", "securityContext")
	alone := s.Pod.Command(t.Context(), "setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all,+net_raw", s.Podnic, "trace",
		"--for", "1ms", "--state-dir", s.StateDir)
	if out, err := alone.CombinedOutput(); err != nil {
		t.Errorf("with NET_RAW alone: %v: %s", err, out)
	}
	trace := s.trace()
	s.Must("restore")
	<-trace.Done
	if text := trace.Output(); trace.Cmd.ProcessState.ExitCode() != 0 || !strings.Contains(text, "tap0 is gone") {
		t.Errorf("exit status %d: %s", trace.Cmd.ProcessState.ExitCode(), text)
	}
	refused(s.traceCommand(), "eth0", "podnic prepare")
}

// TestCaptureGoesToAPipe has tcpdump read the capture while it is being made.
func TestCaptureGoesToAPipe(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	cmd := s.Pod.Command(context.Background(), "sh", "-c", `"$1" trace --write - --state-dir "$2" | tcpdump -l -nn -r -`, "sh", s.Podnic, s.StateDir)
	reader := podtest.Start(t, "trace into tcpdump", cmd)
	reader.Says("tracing tap0")
	s.plug().arping(s, "10.244.2.77")
	reader.Says("who-has 10.244.2.77")
	s.Must("restore", "--force")
	select {
	case <-reader.Done:
	case <-t.Context().Done():
		t.Fatal("it does not end")
	}
	if text := reader.Output(); strings.Contains(text, "guest →") {
		t.Errorf("there are lines between the frames: %s", text)
	}
}
