package look

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

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

// TestEachOfFourInterfacesIsShown has a pod whose interfaces differ in all that shows: a redirect and a bridge, a packet and a UDP
// socket, a macvlan, and one that is served nothing. Each has a drawing, a part of the graph, its own metrics and files, and what a
// check says of sockets is of all of them.
func TestEachOfFourInterfacesIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.In(s.Pod.Namespace, `veth() {
	ip link add $1 index $2 address $3 type veth peer name peer-$1 netns `+s.Node.Name+`
	ip link set $1 up
}
echo 0 >/proc/sys/net/ipv4/conf/all/accept_local
veth net1 61 0a:58:c6:33:64:07
veth net3 63 0a:58:c6:33:64:09
ip address add 198.51.100.7/24 dev net1`)
	s.In(s.Node.Namespace, `ip link set peer-net1 up
ip link set peer-net3 up
ip link add up2 type veth peer name far2
ip link set up2 up
ip link set far2 up
ip link add link up2 name net2 index 62 address 0a:58:cb:00:71:07 netns `+s.Pod.Name+` type macvlan mode bridge`)
	s.In(s.Pod.Namespace, "ip address add 203.0.113.7/24 dev net2\nip link set net2 up")
	s.Remember()
	s.Must("prepare", "--interface", "eth0,binding=redirect", "--interface", "net1,socket=udp", "--interface", "net2", "--interface", "net3")
	metrics := filepath.Join(t.TempDir(), "metrics.sock")
	s.server = s.Start("serve", "--log-format", "json", "--metrics-listen", "unix:"+metrics)
	s.plug()
	s.In(s.guest, "busybox udhcpc -f -q -n -t 40 -T 1 -i eth0 -s /bin/true 2>/dev/null")
	s.Must("status", "--interface", "eth0", "--wait", "ready", "--timeout", patience)
	for range 4 {
		s.server.Says(`"msg":"serving"`)
	}
	s.Until("serving, eth0 is ready, and net1 has its warning", func(r podtest.Report) bool {
		return r.Phase == "serving" && len(r.Interfaces) == 4 && len(r.Interfaces[1].Warnings) > 0
	})

	drawing := s.Must("status")
	for line := range strings.Lines(drawing) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 || strings.Contains(line, "…") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	golden(t, "four-interfaces", eachSettled(drawing))
	s.graph()
	graph := s.Must("status", "-o", "dot")
	for i, name := range []string{"eth0", "net1", "net2", "net3"} {
		if !strings.Contains(graph, fmt.Sprintf("  subgraph cluster_%d {\n  label=\"%s: ", i, name)) {
			t.Errorf("the graph has no part of %s:\n%s", name, graph)
		}
	}
	text := podtest.Metrics(t, metrics)
	for _, sample := range []string{
		`podnic_serving{interface="eth0"} 1`, `podnic_serving{interface="net1"} 1`, `podnic_serving{interface="net2"} 1`, `podnic_serving{interface="net3"} 1`,
		`podnic_guest_ready{interface="eth0"} 1`, `podnic_guest_ready{interface="net1"} 0`,
		`podnic_lease_state{interface="eth0",family="ipv4",state="bound"} 1`, `podnic_lease_state{interface="net2",family="ipv4",state="none"} 1`,
		`podnic_dhcp_messages_total{interface="eth0",family="ipv4",type="request",outcome="ack"} 1`,
		`podnic_dhcp_messages_total{interface="net1",family="ipv4",type="request",outcome="ack"} 0`,
	} {
		if !strings.Contains(text, "\n"+sample+"\n") {
			t.Errorf("the metrics lack %s:\n%s", sample, text)
		}
	}

	// What eth0, the first, takes of the pod and of a process is not what all take.
	out, _, _ := podtest.Run(t, s.Pod.Command(t.Context(), "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--",
		s.Podnic, "doctor", "--state-dir", s.StateDir, "--only", "capabilities,martians"))
	for _, words := range []string{"fail capabilities this process lacks CAP_NET_RAW", "fail martians net.ipv4.conf.all.accept_local is 0"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), words) {
			t.Errorf("doctor does not say %q:\n%s", words, out)
		}
	}
	s.server.End(syscall.SIGTERM)
	s.unplug()
	s.Must("restore")
	s.AsBefore()
}

// eachSettled is a drawing of several interfaces without what is volatile.
func eachSettled(drawing string) string {
	var all strings.Builder
	heads := regexp.MustCompile(`(?m)^(?:eth0|net\d): `).FindAllStringIndex(drawing, -1)
	for i, head := range heads {
		end := len(drawing)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		one := settled(drawing[head[0]:end])
		all.WriteString(regexp.MustCompile(`(  Waiting for .*): .* since`).ReplaceAllString(one, "$1: … since"))
		all.WriteString("\n")
	}
	return all.String()
}

// TestBundleHasTheRecordOfVersion1 that an older podnic left, and beside it that of an interface which was wired since.
func TestBundleHasTheRecordOfVersion1(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.In(s.Pod.Namespace, "ip link add net1 type veth peer name net1p\nip link set net1 up\nip link set net1p up")
	s.Must("prepare")
	own, first := filepath.Join(s.StateDir, "eth0"), filepath.Join(s.StateDir, "record.json")
	text, err := os.ReadFile(filepath.Join(own, "record.json"))
	if err == nil {
		err = os.WriteFile(first, bytes.Replace(text, []byte(`"version": 2`), []byte(`"version": 1`), 1), 0o600)
	}
	if err = errors.Join(err, os.RemoveAll(own)); err != nil {
		t.Fatal(err)
	}
	s.Must("prepare", "--interface", "net1")
	files := unpack(t, strings.NewReader(s.Must("doctor", "bundle", "-", "--connect-timeout", "100ms")))
	for _, name := range []string{"eth0", "net1"} {
		if record := files["interfaces/"+name+"/record.json"]; !strings.Contains(record, `"interface": "`+name+`"`) {
			t.Errorf("the record of %s is %q", name, record)
		}
	}
	s.Must("restore")
}
