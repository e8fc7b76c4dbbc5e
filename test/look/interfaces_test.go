package look

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestCommandsWalkAllInterfaces has a pod with eth0, net1 of a range of its own, and net2 without an address, each with its tap:
// what each command says, and what restore does where a guest holds one of the taps.
func TestCommandsWalkAllInterfaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.In(s.Pod.Namespace, `for n in net1 net2; do
ip link add $n type veth peer name peer-$n netns `+s.Node.Name+`
ip link set $n up
done
ip address add 198.51.100.7/24 dev net1`)
	s.In(s.Node.Namespace, "ip link set peer-net1 up\nip link set peer-net2 up")
	s.Remember()
	says := func(what, out string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(out, word) {
				t.Errorf("%s does not say %q:\n%s", what, word, out)
			}
		}
	}
	says("prepare --dry-run", s.Must("prepare", "--interface", "all", "--dry-run"), "eth0\nbinding", "net1\nbinding", "net2\nbinding")
	s.AsBefore()
	says("prepare", s.Must("prepare", "--interface", "all"), "eth0 is wired", "tap0", "net1 is wired", "tap1", "net2 is wired", "tap2", "layer 2 only")
	says("status", s.Must("status"), "eth0: wired", "net1: wired", "net2: wired", "198.51.100.7", "layer 2 only")
	if out := s.Must("status", "--interface", "net1"); !strings.HasPrefix(out, "net1: wired") || strings.Contains(out, "eth0:") {
		t.Errorf("status of one:\n%s", out)
	}
	var found struct {
		Findings []struct{ Check, Interface, Reason string }
	}
	out, _, _ := podtest.Run(t, s.Command(t.Context(), "doctor", "-o", "json", "--only", "wiring,resolver,iptables"))
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var checks []string
	for _, f := range found.Findings {
		checks = append(checks, f.Check+" "+f.Interface)
	}
	if got := strings.Join(checks, ", "); got != "wiring eth0, wiring net1, wiring net2, resolver eth0, resolver net1, resolver net2, iptables " {
		t.Errorf("doctor checks %s", got)
	}
	bundle := filepath.Join(t.TempDir(), "bundle.tgz")
	s.Must("doctor", "bundle", bundle, "--connect-timeout", "100ms")
	archive, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, bytes.NewReader(archive))
	for _, name := range []string{"eth0", "net1", "net2"} {
		says("the record of "+name, files["interfaces/"+name+"/record.json"], `"interface": "`+name+`"`)
	}
	_, stderr, status := podtest.Run(t, s.Command(t.Context(), "trace", "--for", "100ms"))
	if says("trace", stderr, "tracing tap0 of eth0", "tracing tap1 of net1", "tracing tap2 of net2"); status != 0 {
		t.Errorf("trace: exit status %d", status)
	}

	guest := podtest.HoldTap(t, s.Pod.Namespace, "tap1")
	stdout, stderr, status := podtest.Run(t, s.Command(t.Context(), "restore"))
	says("restore", stdout, "eth0 is the pod's again", "net2 is the pod's again")
	if says("restore", stderr, "a guest holds tap1"); status != 2 {
		t.Errorf("restore beside a guest: exit status %d", status)
	}
	if _, stderr, status = podtest.Run(t, s.Command(t.Context(), "restore", "--interface", "eth0")); status != 2 {
		t.Errorf("restore of what is not wired: exit status %d: %s", status, stderr)
	}
	says("restore", stderr, "eth0 is not wired, and net1 is")
	guest.Close()
	s.Must("restore")
	s.AsBefore()
}
