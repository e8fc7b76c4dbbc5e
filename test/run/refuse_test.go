package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

const plainDomain = `<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices/></domain>`

// TestBadInputIsRefusedInOneLine gives `podnic run` everything that it cannot work with. Each is refused with status 2 and
// one line that names the thing, and the namespace is not touched.
func TestBadInputIsRefusedInOneLine(t *testing.T) {
	s := newSite(t, pod.PTP)
	for _, test := range []struct {
		name   string
		before []string // ip commands in the pod
		after  []string
		xml    string
		args   []string
		want   []string // words of the line
	}{
		{name: "no such interface", args: []string{"--interface", "net1"}, want: []string{"net1", "eth0", "--interface"}},
		{name: "loopback", args: []string{"--interface", "lo"}, want: []string{"loopback", "--interface"}},
		{name: "a bridge", before: []string{"link add br7 type bridge"}, after: []string{"link del br7"}, args: []string{"--interface", "br7"}, want: []string{"br7", "bridge"}},
		{name: "already a port", before: []string{"link add br7 type bridge", "link add v0 type veth peer name v1", "link set v0 master br7"},
			after: []string{"link del br7", "link del v0"}, args: []string{"--interface", "v0"}, want: []string{"v0", "port of br7"}},
		{name: "malformed XML", xml: "<domain><name>vm</name>", want: []string{"line 1"}},
		{name: "not a domain", xml: "<network><name>vm</name></network>", want: []string{"domain"}},
		{name: "no name", xml: "<domain type='qemu'><devices/></domain>", want: []string{"<name>"}},
		{name: "two interfaces", xml: strings.Replace(plainDomain, "<devices/>", "<devices><interface type='user'/><interface type='user'/></devices>", 1), want: []string{"tap0"}},
		{name: "libvirt is not there", args: []string{"--connect", "qemu+unix:///system?socket=/nowhere/libvirt-sock", "--connect-timeout", "100ms"}, want: []string{"/nowhere/libvirt-sock"}},
		{name: "a libvirt URI that is none", args: []string{"--connect", "nothing:///", "--connect-timeout", "100ms"}, want: []string{"nothing:///"}},
		{name: "the tap's name is taken", before: []string{"link add tap0 type veth peer name v1"}, after: []string{"link del tap0"}, want: []string{"tap0", "--tap"}},
		{name: "the bridge's name is taken", before: []string{"link add eth0-br type veth peer name v1"}, after: []string{"link del eth0-br"}, want: []string{"eth0-br"}},
		{name: "a name of libvirt's", args: []string{"--tap", "vnet0"}, want: []string{"vnet0", "--tap"}},
		{name: "state directory", args: []string{"--state-dir", "/proc/nothing"}, want: []string{"/proc/nothing", "--state-dir"}},
		{name: "no domain", args: []string{"--domain", "/nothing.xml"}, want: []string{"/nothing.xml"}},
		{name: "no such flag", args: []string{"--nonsense"}, want: []string{"--nonsense", "--help"}},
		{name: "no such binding", args: []string{"--binding", "macvtap"}, want: []string{"macvtap", "bridge"}},
		{name: "no such configuration", args: []string{"--config", "/nothing.yaml"}, want: []string{"/nothing.yaml"}},
		{name: "metrics at the guest's address", args: []string{"--metrics-listen", s.Pod.Address.Addr().String() + ":9750"}, want: []string{"given to the guest", "unix:PATH"}},
		{name: "metrics everywhere", args: []string{"--metrics-listen", ":9750"}, want: []string{"every address", "unix:PATH"}},
		{name: "metrics on a file", args: []string{"--metrics-listen", "unix:/etc/hostname"}, want: []string{"/etc/hostname", "--metrics-listen"}},
		{name: "lease time", args: []string{"--lease-time", "soon"}, want: []string{"--lease-time", "soon"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.T = t
			for _, c := range test.before {
				s.ip(c)
			}
			before := podtest.State(t, s.Pod.Namespace)
			xml := test.xml
			if xml == "" {
				xml = plainDomain
			}
			file := filepath.Join(t.TempDir(), "domain.xml")
			if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
				t.Fatal(err)
			}
			a := s.run(append([]string{"--domain", file, "--log-level", "error"}, test.args...)...)
			a.Exits(2)
			line := a.Output()
			t.Log(line)
			if len(a.Lines()) != 1 || !strings.HasPrefix(line, "podnic: ") {
				t.Errorf("not one line:\n%s", line)
			}
			for _, word := range test.want {
				if !strings.Contains(line, word) {
					t.Errorf("the line does not say %q: %s", word, line)
				}
			}
			if diff := before.Diff(podtest.State(t, s.Pod.Namespace)); diff != "" {
				t.Errorf("the namespace was touched:\n%s", diff)
			}
			for _, c := range test.after {
				s.ip(c)
			}
		})
	}
	t.Run("what lasts is said", func(t *testing.T) {
		s.T = t
		file := filepath.Join(t.TempDir(), "domain.xml")
		if err := os.WriteFile(file, []byte(plainDomain), 0o600); err != nil {
			t.Fatal(err)
		}
		a := s.run("--domain", file, "--connect", "qemu+unix:///system?socket=/nowhere/libvirt-sock", "--connect-timeout", "1200ms", "--log-format", "json")
		a.Exits(2)
		if log := a.Output(); strings.Count(log, `"waiting for libvirt's daemon: start libvirtd`) != 1 || !strings.Contains(log, `"connectTimeout":"1.2s"`) {
			t.Errorf("the log is %s", log)
		}
	})
}

func (s *site) ip(command string) {
	s.T.Helper()
	if out, err := s.Pod.Output(s.T.Context(), "ip", strings.Fields(command)...); err != nil {
		s.T.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// TestDomainThatRunsAlreadyIsRefused starts a domain of the name by other means.
func TestDomainThatRunsAlreadyIsRefused(t *testing.T) {
	s := newSite(t, pod.PTP)
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(plainDomain), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.libvirtd.Virsh(t.Context(), "create", file); err != nil {
		t.Fatal(err)
	}
	a := s.run("--domain", file)
	a.Exits(2)
	if !strings.Contains(a.Output(), "running already") {
		t.Error(a.Output())
	}
	s.AsBefore()
	if out, err := s.libvirtd.Virsh(t.Context(), "domstate", "vm"); err != nil || out != "running" {
		t.Errorf("the other domain is %q: %v", out, err)
	}
}

// TestMissingCapabilityIsNamed takes one capability after the other away from podnic.
func TestMissingCapabilityIsNamed(t *testing.T) {
	s := newSite(t, pod.PTP)
	for _, name := range []string{"net_admin", "net_raw"} {
		cmd := s.Pod.Command(t.Context(), "setpriv", "--bounding-set", "-"+name, "--inh-caps", "-"+name, s.Podnic, "prepare", "--state-dir", s.StateDir)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "CAP_"+strings.ToUpper(name)) {
			t.Errorf("without %s: %v: %s", name, err, out)
		}
	}
	s.AsBefore()
}

// TestMachinesOwnNamespaceIsRefused runs where every mistake would cost the machine its network, so only commands that
// refuse before anything else are tried, and dry.
func TestMachinesOwnNamespaceIsRefused(t *testing.T) {
	s := newSite(t, pod.PTP)
	for _, netns := range []string{"", fmt.Sprintf("/proc/%d/ns/net", os.Getpid())} {
		args := []string{"prepare", "--dry-run", "--state-dir", s.StateDir}
		if netns != "" {
			args = append(args, "--netns", netns)
		}
		out, err := execHere(s.Podnic, args...)
		if err == nil || !strings.Contains(out, "machine's own") || !strings.Contains(out, "--allow-host-namespace") {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}
