package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// hookMedian reports the median of what op takes. What undo takes, if there is one, does not count.
func hookMedian(b *testing.B, op, undo func()) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		op()
		times = append(times, time.Since(began))
		undo()
	}
	median(b, times)
}

// hookRun runs a program to its end, with an input.
func hookRun(b *testing.B, input string, cmd *exec.Cmd) {
	b.Helper()
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		b.Fatalf("%s: %v: %s", cmd, err, out)
	}
}

// hookDomain is a domain of the size of one that libvirt prints, with as many elements. The interface and the metadata are
// what decides.
func hookDomain(metadata, mac string) string {
	var devices strings.Builder
	for i := range 24 {
		fmt.Fprintf(&devices, "    <controller type='pci' index='%d' model='pcie-root-port'>\n      <model name='pcie-root-port'/>\n"+
			"      <target chassis='%d' port='0x%x'/>\n      <alias name='pci.%d'/>\n"+
			"      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x%x' multifunction='on'/>\n    </controller>\n", i, i, i, i, i%8)
	}
	return "<domain type='kvm' id='1'>\n  <name>vm</name>\n  <uuid>11111111-2222-3333-4444-555555555555</uuid>\n" + metadata +
		"  <memory unit='KiB'>131072</memory>\n  <devices>\n" + devices.String() + "    <interface type='ethernet'>\n" +
		"      <mac address='" + mac + "'/>\n      <target dev='tap0' managed='no'/>\n      <model type='virtio'/>\n    </interface>\n" +
		"  </devices>\n</domain>\n"
}

// BenchmarkHookForeign is the hook for a domain that is not podnic's, from exec to exit, beside programs that do nothing:
// of Go, and of the languages that hooks are written in.
func BenchmarkHookForeign(b *testing.B) {
	podnic := podtest.Program(b)
	dir := b.TempDir()
	source, empty := filepath.Join(dir, "main.go"), filepath.Join(dir, "empty")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", empty, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	xml := hookDomain("", "52:54:00:12:34:56")
	for _, peer := range []struct {
		name    string
		command []string
	}{
		{"empty", []string{empty}},
		{"podnic", []string{podnic, "hook", "vm", "prepare", "begin", "-"}},
		{"sh", []string{"sh", "-c", ":"}},
		{"python3", []string{"python3", "-c", "pass"}},
	} {
		b.Run(peer.name, func(b *testing.B) {
			if _, err := exec.LookPath(peer.command[0]); err != nil {
				b.Skipf("%s is not here", peer.command[0])
			}
			hookMedian(b, func() { hookRun(b, xml, exec.Command(peer.command[0], peer.command[1:]...)) }, func() {})
		})
	}
}

// macOf is the MAC of the pod's interface.
func macOf(p *pod.Pod) (mac string) {
	for _, i := range p.Result.Interfaces {
		if i.Sandbox != "" {
			mac = i.Mac
		}
	}
	return mac
}

// BenchmarkHookPrepare is the hook before a start, from exec until the guest may run: wired, and a server that can hear it.
func BenchmarkHookPrepare(b *testing.B) {
	podnic := podtest.Program(b)
	p := podtest.Pod(b, podtest.Node(b), pod.Spec{Name: "vm", Network: pod.PTP})
	mac := macOf(p)
	stateDir := memoryDir(b)
	xml := hookDomain("<metadata><podnic:pod xmlns:podnic='urn:podnic:domain:1'/></metadata>", mac)
	call := func(operation, sub string) func() {
		return func() {
			cmd := exec.Command(podnic, "hook", "vm", operation, sub, "-")
			cmd.Env = append(os.Environ(), "PODNIC_STATE_DIR="+stateDir)
			if err := p.Do(func() error { hookRun(b, xml, cmd); return nil }); err != nil {
				b.Fatal(err)
			}
		}
	}
	prepare, release := call("prepare", "begin"), call("release", "end")
	b.Run("ready", func(b *testing.B) { hookMedian(b, prepare, release) })
	b.Run("release", func(b *testing.B) {
		prepare()
		hookMedian(b, release, prepare)
		release()
	})
}
