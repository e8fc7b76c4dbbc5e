package hook

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/repeat"
)

// lab is a pod in which the test plays libvirt.
type lab struct {
	place
	stateDir string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	podtest.NeedRoot(t)
	return &lab{place: newPlace(t, podtest.Node(t))}
}

// in is the same for a subtest.
func (l *lab) in(t *testing.T) *lab {
	inner := *l
	inner.Site = l.For(t)
	return &inner
}

// domain is the XML of podnic's domain vm. change edits it.
func (l *lab) domain(change ...string) string {
	xml := `<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid>` + metadata +
		`<devices>` + nic(l.MAC.String()) + `</devices></domain>`
	return strings.NewReplacer(change...).Replace(xml)
}

// another is a second domain of podnic's, called other.
func (l *lab) another() string {
	return l.domain("<name>vm", "<name>other", "<uuid>1", "<uuid>2")
}

var subOperations = map[string]string{"stopped": "end", "release": "end"}

// hook is a call of the hook for an operation, with the XML of a domain.
func (l *lab) hook(operation, xml string, env ...string) *exec.Cmd {
	sub := subOperations[operation]
	if sub == "" {
		sub = "begin"
	}
	cmd := l.Pod.Command(l.T.Context(), l.Podnic, "hook", "vm", operation, sub, "-")
	cmd.Env = append(append(os.Environ(), "PODNIC_STATE_DIR="+l.stateDir), env...)
	cmd.Stdin = strings.NewReader(xml)
	return cmd
}

// must is a call that has to succeed, and to say nothing.
func (l *lab) must(operation, xml string, env ...string) {
	l.T.Helper()
	if stdout, stderr, status := podtest.Run(l.T, l.hook(operation, xml, env...)); status != 0 || stdout != "" || stderr != "" {
		l.T.Fatalf("%s: exit status %d, %q, %q", operation, status, stdout, stderr)
	}
}

// refused is a call that has to fail with a status, in one line with these words and nothing on standard output.
func (l *lab) refused(status int, cmd *exec.Cmd, words ...string) {
	l.T.Helper()
	stdout, stderr, got := podtest.Run(l.T, cmd)
	if got != status || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "podnic: ") {
		l.T.Errorf("exit status %d, want %d; %q, %q", got, status, stdout, stderr)
	}
	for _, word := range words {
		if !strings.Contains(stderr, word) {
			l.T.Errorf("the line does not say %q: %s", word, stderr)
		}
	}
}

// command runs another podnic command in the pod.
func (l *lab) command(args ...string) *exec.Cmd {
	return l.Pod.Command(l.T.Context(), l.Podnic, append(args, "--state-dir", l.stateDir)...)
}

func (l *lab) log() string {
	text, err := os.ReadFile(filepath.Join(l.stateDir, ".podnic", "hook.log"))
	if err != nil {
		l.T.Fatal(err)
	}
	return string(text)
}

// TestCalls calls the hook as libvirt does, without libvirt, in one pod. After each test the pod is what it was.
func TestCalls(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct {
		name string
		run  func(*lab)
	}{
		{"input that is no domain is refused", inputThatIsNoDomainIsRefused},
		{"what does not fit names the attribute", whatDoesNotFitNamesTheAttribute},
		{"domain of another is left alone", domainOfAnotherIsLeftAlone},
		{"what libvirt accepts is left alone", whatLibvirtAcceptsIsLeftAlone},
		{"what is no domain is left alone", whatIsNoDomainIsLeftAlone},
		{"work grows with the domain", workGrowsWithTheDomain},
		{"every operation", everyOperation},
		{"tap is the domains", tapIsTheDomains},
		{"sidecar is used", sidecarIsUsed},
		{"wiring by hand is used", wiringByHandIsUsed},
		{"a guest with several", guestWithSeveral},
		{"failed server is taken back", failedServerIsTakenBack},
		{"called by its name", calledByItsName},
		{"replaced while a guest runs", replacedWhileAGuestRuns},
		{"server needs its starter", serverNeedsItsStarter},
		{"restore ends the server", restoreEndsTheServer},
		{"hung server is killed", hungServerIsKilled},
		{"server of somebody else is not ended", serverOfSomebodyElseIsNotEnded},
		{"one guest gets the interface", oneGuestGetsTheInterface},
		{"hook killed at any moment", hookKilledAtAnyMoment},
		{"each call is bounded", eachCallIsBounded},
		{"configuration has a place", configurationHasAPlace},
		{"broken configuration", brokenConfiguration},
		{"server is detached", serverIsDetached},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := l.in(t)
			l.stateDir = filepath.Join(t.TempDir(), "state")
			test.run(l)
			l.asBefore()
		})
	}
}

// inputThatIsNoDomainIsRefused where the domain is podnic's, by its metadata or its name, also at the operations that must not
// fail, where it is only said.
func inputThatIsNoDomainIsRefused(l *lab) {
	t := l.T
	const named = "PODNIC_HOOK_DOMAINS=v*"
	large := strings.Replace(l.domain(), "</domain>", "<!--"+strings.Repeat("x", 10<<20)+"--></domain>", 1)
	for name, test := range map[string]struct{ xml, env, want string }{
		"10 MiB":            {large, "", "longer than the 4194304 bytes"},
		"malformed":         {l.domain()[:200], "", "line 1"},
		"malformed, named":  {"<domain><name>vm", named, "line 1"},
		"empty":             {"", named, "empty"},
		"another document":  {"<network><name>vm</name></network>", named, "<network>"},
		"unknown metadata":  {l.domain("interface=", "colour="), "", "colour"},
		"it ends too early": {l.domain()[:strings.Index(l.domain(), "</metadata>")], "", "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			l := l.in(t)
			l.refused(2, l.hook("prepare", test.xml, test.env), test.want)
			l.refused(2, l.hook("release", test.xml, test.env), test.want)
			l.refused(0, l.hook("reconnect", test.xml, test.env), test.want)
			l.refused(0, l.hook("attach", test.xml, test.env), test.want)
			l.asBefore()
			if log := l.log(); !strings.Contains(log, test.want) {
				t.Errorf("the log does not say %q:\n%s", test.want, log)
			}
		})
	}
}

// whatDoesNotFitNamesTheAttribute refuses with what to change to what, and touches nothing.
func whatDoesNotFitNamesTheAttribute(l *lab) {
	t := l.T
	for _, test := range []struct {
		name     string
		from, to string
		env      string
		want     []string
	}{
		{"MAC", l.MAC.String(), "52:54:00:11:22:33", "", []string{"change <mac address='52:54:00:11:22:33'/> to address='" + l.MAC.String() + "'"}},
		{"no MAC", "<mac address='" + l.MAC.String() + "'/>", "", "", []string{"add <mac address='" + l.MAC.String() + "'/>"}},
		{"MTU", "<model", "<mtu size='9000'/><model", "", []string{"change <mtu size='9000'/> to size='1500'"}},
		{"tap", "x", "x", "PODNIC_TAP=tap7", []string{"change <target dev='tap0'/> to dev='tap7'"}},
		{"tap of libvirt's", "tap0", "vnet0", "", []string{"change <target dev='vnet0'/>", "vnet"}},
		{"more queues than configured", "<model", "<driver queues='4'/><model", "PODNIC_QUEUES=1", []string{"change <driver queues='4'/> to queues='1'"}},
		{"fewer queues than configured", "x", "x", "PODNIC_QUEUES=2", []string{"change <driver> to queues='2'"}},
		{"a model of one queue", "type='virtio'", "type='e1000'", "PODNIC_QUEUES=2", []string{"change <model type='e1000'/> to type='virtio'"}},
		{"managed", " managed='no'", "", "", []string{"change <target>", "dev='tap0' managed='no'"}},
		{"another type", "type='ethernet'", "type='bridge'", "", []string{"change <interface type='bridge'> to type='ethernet'"}},
		{"no interface", nic(l.MAC.String()), "", "", []string{"add <interface type='ethernet'>", "dev='tap0' managed='no'"}},
		{"two of them", nic(l.MAC.String()), strings.Replace(nic(l.MAC.String())+nic(l.MAC.String()), "tap0", "tap1", 1) + strings.Replace(nic(l.MAC.String()), "tap0", "tap1", 1), "PODNIC_TAP=tap1", []string{"2 interfaces", "dev='tap1'"}},
		{"no such interface of the pod", "interface=\"eth0\"", "interface=\"net7\"", "", []string{"net7", "eth0"}},
		{"IPv6 that there is not", "interface=", "ipv6=\"serve\" interface=", "", []string{"eth0 has no global IPv6 address", "auto"}},
		{"no such binding", "interface=", "binding=\"macvtap\" interface=", "", []string{"macvtap", "bridge"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := l.in(t)
			l.refused(2, l.hook("prepare", l.domain(test.from, test.to), test.env), test.want...)
			l.asBefore()
		})
	}
}

// domainOfAnotherIsLeftAlone goes through all operations, and leaves not even a line in the log.
func domainOfAnotherIsLeftAlone(l *lab) {
	t := l.T
	foreign := l.domain(metadata, "<metadata><pod xmlns='urn:somebody'/></metadata>")
	for _, operation := range operations {
		l.must(operation, foreign)
	}
	if _, err := os.Stat(l.stateDir); err == nil {
		t.Error("the state directory was made")
	}
	l.asBefore()

	// A name is as good as the metadata.
	l.must("prepare", foreign, "PODNIC_HOOK_DOMAINS=web-*,v?")
	l.server()
	l.must("release", foreign, "PODNIC_HOOK_DOMAINS=v?")
	l.asBefore()
}

// whatLibvirtAcceptsIsLeftAlone gives the hook what libvirt prints of domains whose metadata hold names that encoding/xml does
// not know, references without entities, and many attributes. Where podnic's element is beside all that, the guest has its
// network.
func whatLibvirtAcceptsIsLeftAlone(l *lab) {
	t := l.T
	printed := func(kept string) string {
		file := filepath.Join(t.TempDir(), "domain.xml")
		xml := `<!DOCTYPE domain [<!ENTITY e "1">]>` + l.domain(metadata, "<metadata>"+kept+"</metadata>", "type='qemu'", "type='test'",
			"<devices>", "<memory>1024</memory><os><type>hvm</type></os><devices>")
		if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, status := podtest.Run(t, exec.CommandContext(t.Context(), "virsh", "-q", "-c", "test:///default", "define "+file+"; dumpxml vm"))
		_, domain, found := strings.Cut(stdout, "<domain")
		if status != 0 || !found {
			t.Fatalf("libvirt does not take it: %d, %s", status, stderr)
		}
		return "<domain" + domain
	}
	var attributes strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&attributes, ` a%x=""`, i)
	}
	var all strings.Builder
	for i, kept := range []string{
		`<x:a xmlns:x="URI"/>`, `<x:😀 xmlns:x="URI"/>`, `<x:Ͱbc xmlns:x="URI"/>`, `<x:a:b xmlns:x="URI"/>`,
		`<x:a xmlns:x="URI" 𐐀="1"/>`, `<x:a xmlns:x="URI"><?😀 y?></x:a>`, `<😀:a xmlns:😀="URI" b="&e;">&e;</😀:a>`,
		`<x xmlns="URI"` + attributes.String() + `/>`,
	} {
		kept = strings.ReplaceAll(kept, "URI", fmt.Sprintf("urn:x:%d", i)) // libvirt keeps one element of each
		all.WriteString(kept)
		l.must("prepare", printed(kept))
	}
	l.asBefore()
	ours, _ := strings.CutPrefix(metadata, "<metadata>")
	ours, _ = strings.CutSuffix(ours, "</metadata>")
	vm := printed(all.String() + ours)
	l.must("prepare", vm)
	l.server()
	l.must("release", vm)
	l.asBefore()
}

// whatIsNoDomainIsLeftAlone where nothing in it says that it is podnic's.
func whatIsNoDomainIsLeftAlone(l *lab) {
	config := filepath.Join(l.T.TempDir(), "podnic.yaml") // which cannot be read
	for _, xml := range []string{
		"", "\x00", "<", "<domain>", "name: vm", "<network><name>vm</name></network>", l.domain(metadata, "")[:100],
		"<domain><metadata><podnic:pod xmlns:podnic='urn:podnic", strings.Repeat("<!-- x -->", 1<<20),
	} {
		for _, operation := range operations {
			l.must(operation, xml)
		}
		l.must("prepare", xml, "PODNIC_CONFIG="+config)
		l.must("prepare", xml, "PODNIC_HOOK_DOMAINS=[a")
	}
	l.asBefore()
}

// workGrowsWithTheDomain as its length does, and not as its square: with 300,000 attributes that would be more than the ten
// seconds of processor time that the kernel grants here.
func workGrowsWithTheDomain(l *lab) {
	var attributes strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&attributes, ` a%x=""`, i)
	}
	kept := `<x xmlns="urn:x"` + attributes.String() + "/>"
	limited := func(operation, xml string, env ...string) {
		l.T.Helper()
		cmd := l.hook(operation, xml, env...)
		i := slices.Index(cmd.Args, l.Podnic)
		cmd.Args = slices.Insert(cmd.Args, i, "prlimit", "--cpu=10", "--")
		if stdout, stderr, status := podtest.Run(l.T, cmd); status != 0 || stdout+stderr != "" {
			l.T.Errorf("%s: exit status %d, %q, %q", operation, status, stdout, stderr)
		}
	}
	foreign := l.domain(metadata, "<metadata>"+kept+"</metadata>", "type='ethernet'", "type='user'")
	limited("prepare", foreign)
	limited("prepare", foreign, "PODNIC_HOOK_DOMAINS=[a")
	l.asBefore()
	ours := l.domain("<metadata>", "<metadata>"+kept)
	limited("prepare", ours)
	limited("release", ours)
}

var operations = []string{"migrate", "restore", "prepare", "start", "started", "reconnect", "attach", "stopped", "release"}

// everyOperation goes through a guest's life as libvirt tells it. Nothing is ever printed (must).
func everyOperation(l *lab) {
	t := l.T
	vm := l.domain()
	for _, operation := range []string{"migrate", "restore", "unheard-of"} {
		l.must(operation, vm)
		l.asBefore()
	}
	l.refused(1, l.hook("start", vm), "not wired")
	l.refused(0, l.hook("reconnect", vm), "not wired")
	l.must("prepare", vm)
	l.refused(2, l.hook("prepare", l.another()), `given to the guest "vm"`)
	server := l.server()
	for _, operation := range []string{"start", "started", "reconnect", "attach"} {
		l.must(operation, vm)
		if l.server() != server {
			t.Errorf("%s replaced the server", operation)
		}
	}
	// One that died is started again by each of them.
	for _, operation := range []string{"start", "started", "reconnect", "attach", "prepare"} {
		if err := process.End(t.Context(), l.server(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.must(operation, vm)
		l.server()
	}
	// A guest that holds a tap which is gone cannot be helped. It is said once: then there is a tap again.
	for operation, status := range map[string]int{"started": 1, "reconnect": 0} {
		if out, err := l.Pod.Output(t.Context(), "ip", "link", "delete", "tap0"); err != nil {
			t.Fatal(err, out)
		}
		l.refused(status, l.hook(operation, vm), "lost its network", "start it again")
	}
	l.must("stopped", vm)
	l.asBefore()
	l.must("release", vm)
	l.asBefore()
	if lines := strings.Count(l.log(), "\n"); lines != 19 {
		t.Errorf("19 calls left %d lines:\n%s", lines, l.log())
	}
}

// tapIsTheDomains wires with the name, the queues and the MTU that the domain has.
func tapIsTheDomains(l *lab) {
	t := l.T
	vm := l.domain("tap0", "guest0", "<model", "<driver queues='4'/><mtu size='1400'/><model")
	l.must("prepare", vm)
	if link, err := l.Pod.Output(t.Context(), "ip", "-d", "link", "show", "guest0"); err != nil || !strings.Contains(link, "multi_queue") {
		t.Errorf("the tap is %s, %v", link, err)
	}
	// A guest whose driver takes 1400 bytes is not told the pod's 1500.
	if out, _, _ := podtest.Run(t, l.command("status", "-o", "json")); !strings.Contains(out, `"mtu": 1400`) {
		t.Errorf("status: %s", out)
	}
	l.must("release", vm)
	l.asBefore()
}

// sidecarIsUsed has a server that the hook did not start, and a wiring that it did not make: both stay.
func sidecarIsUsed(l *lab) {
	t := l.T
	if _, stderr, status := podtest.Run(t, l.command("prepare")); status != 0 {
		t.Fatal(stderr)
	}
	sidecar := podtest.Start(t, "podnic serve", l.command("serve"))
	podtest.Until(t, "the sidecar", func() bool {
		out, _, _ := podtest.Run(t, l.command("status"))
		return strings.Contains(out, "serving")
	})
	vm := l.domain()
	for _, operation := range []string{"prepare", "start", "started", "stopped", "release"} {
		l.must(operation, vm)
		if l.server() != sidecar.PID() {
			t.Fatalf("after %s, process %d serves, and the sidecar is %d", operation, l.server(), sidecar.PID())
		}
	}
	// From another container, where it is not to be seen.
	apart := l.hook("prepare", vm)
	apart.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--"}, apart.Args...)
	apart.Path = "/usr/bin/unshare"
	if _, stderr, status := podtest.Run(t, apart); status != 0 {
		t.Errorf("prepare in another PID namespace: status %d: %s", status, stderr)
	}
	out, _, _ := podtest.Run(t, l.command("status"))
	if !strings.Contains(out, "serving") {
		t.Errorf("the wiring did not stay:\n%s", out)
	}
	l.refused(2, l.hook("prepare", l.domain("tap0", "tap1")), "change <target dev='tap1'/> to dev='tap0'")
	sidecar.End(syscall.SIGKILL)
	if _, stderr, status := podtest.Run(t, l.command("restore")); status != 0 {
		t.Error(stderr)
	}
}

// wiringByHandIsUsed has a wiring that `podnic prepare` made, and a server of the hook's. While a guest holds the tap, what
// happens to another does not end that server; when the guest has ended, the server ends and the wiring stays.
func wiringByHandIsUsed(l *lab) {
	t := l.T
	if _, stderr, status := podtest.Run(t, l.command("prepare")); status != 0 {
		t.Fatal(stderr)
	}
	l.must("prepare", l.domain())
	server := l.server()
	guest := podtest.HoldTap(t, l.Pod.Namespace, "tap0")
	l.refused(2, l.hook("prepare", l.another()), "tap0 is held by a guest")
	l.must("release", l.another())
	l.must("reconnect", l.domain())
	if after := l.server(); after != server {
		t.Errorf("the server %d is now %d", server, after)
	}
	l.refused(2, l.hook("prepare", l.domain("interface=\"eth0\"", "interface=\"net1\"")), "there is no interface net1")
	guest.Close()
	l.must("release", l.domain())
	if left := processes(t, l.Pod); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if out, _, _ := podtest.Run(t, l.command("status")); !strings.Contains(out, "nobody serves it") {
		t.Errorf("the wiring did not stay:\n%s", out)
	}
	if _, stderr, status := podtest.Run(t, l.command("restore")); status != 0 {
		t.Error(stderr)
	}
}

// guestWithSeveral has a pod with two interfaces, both in the metadata. One server serves both, all are wired or none, and the end
// takes back what records give to the guest.
func guestWithSeveral(l *lab) {
	t := l.T
	const mac = "0a:58:c6:33:64:07"
	l.In(l.Pod.Namespace, "ip link add net1 address "+mac+" type veth peer name net1p\nip address add 198.51.100.7/24 dev net1\nip link set net1p up\nip link set net1 up")
	defer l.In(l.Pod.Namespace, "ip link delete net1")
	defer func(before pod.State) { l.Before = before }(l.Before)
	l.Remember()
	two := `<podnic:pod xmlns:podnic="urn:podnic:domain:1"><podnic:interface name="eth0" binding="bridge"/><podnic:interface name="net1" binding="redirect"/></podnic:pod>`
	second := "<interface type='ethernet'><alias name='ua-net1'/><mac address='" + mac + "'/><target dev='card1' managed='no'/><mtu size='1400'/></interface>"
	domain := func(change ...string) string {
		xml := strings.NewReplacer(metadata, "<metadata>"+two+"</metadata>", "<devices>", "<devices>"+second).Replace(l.domain())
		return strings.NewReplacer(change...).Replace(xml)
	}
	l.refused(2, l.hook("prepare", domain(mac, "52:54:00:00:00:07")), "does not fit net1", "change <mac address='52:54:00:00:00:07'/>")
	l.refused(2, l.hook("prepare", domain(second, "")), "no interface for the pod's net1", "the pod gives eth0 (tap0", "the domain has 1: type ethernet tap tap0")
	l.refused(2, l.hook("prepare", domain("binding=\"redirect\"", "binding=\"macvtap\"")), "macvtap")
	l.asBefore()
	wired := func() (found []string) {
		t.Helper()
		stdout, stderr, status := podtest.Run(t, l.command("status", "-o", "json"))
		if status != 0 {
			t.Fatal(stderr)
		}
		for _, i := range podtest.ReadReport(t, stdout).Interfaces {
			found = append(found, i.Name+" "+i.Binding+" "+i.Tap)
		}
		return found
	}
	l.must("prepare", domain())
	want := []string{"eth0 bridge tap0", "net1 redirect card1"}
	if got := wired(); !slices.Equal(got, want) {
		t.Errorf("wired: %q", got)
	}
	first := l.server()
	if err := process.End(t.Context(), first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.must("started", domain())
	if l.server() == first {
		t.Error("nobody serves")
	}
	l.must("release", l.another())
	if got := wired(); !slices.Equal(got, want) {
		t.Errorf("after another's end, wired: %q", got)
	}
	l.must("reconnect", domain(second, ""))
	l.must("release", domain())
	l.asBefore()
}

// failedServerIsTakenBack has a log that cannot be opened: the pod is not left wired without a server.
func failedServerIsTakenBack(l *lab) {
	if err := os.MkdirAll(filepath.Join(l.stateDir, ".podnic", "serve.log"), 0o700); err != nil {
		l.T.Fatal(err)
	}
	l.refused(1, l.hook("prepare", l.domain()), "serve.log", "everything was put back")
	l.refused(2, l.hook("prepare", l.domain(), "PODNIC_STATE_DIR=/proc/nothing"), "/proc/nothing", "state-dir")
}

// calledByItsName runs the program under the name of libvirt's main script, with the four arguments alone.
func calledByItsName(l *lab) {
	name := filepath.Join(l.T.TempDir(), "qemu")
	if err := os.Symlink(l.Podnic, name); err != nil {
		l.T.Fatal(err)
	}
	for _, operation := range [][]string{{"prepare", "begin", "-"}, {"release", "end", "destroyed"}} {
		cmd := l.Pod.Command(l.T.Context(), name, append([]string{"vm"}, operation...)...)
		cmd.Env = append(os.Environ(), "PODNIC_STATE_DIR="+l.stateDir)
		cmd.Stdin = strings.NewReader(l.domain())
		if stdout, stderr, status := podtest.Run(l.T, cmd); status != 0 || stdout != "" || stderr != "" {
			l.T.Errorf("%s: exit status %d, %q, %q", operation, status, stdout, stderr)
		}
		if operation[0] == "prepare" {
			l.server()
		}
	}
	if log := l.log(); !strings.Contains(log, `"reason":"destroyed"`) {
		l.T.Errorf("the log does not have libvirt's reason:\n%s", log)
	}
}

// replacedWhileAGuestRuns: the old program serves the guest until it ends, what is called meanwhile is the new one, and so is
// what serves the next guest.
func replacedWhileAGuestRuns(l *lab) {
	t := l.T
	text, err := os.ReadFile(l.Podnic)
	if err != nil {
		t.Fatal(err)
	}
	l.Podnic = filepath.Join(t.TempDir(), "podnic")
	install := func() {
		podtest.Executable(t, l.Podnic+".new", text)
		if err := os.Rename(l.Podnic+".new", l.Podnic); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel says so of the file of a program that was replaced (proc(5)).
	serves := func(replaced bool) int {
		server := l.server()
		if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", server)); err != nil || strings.HasSuffix(path, " (deleted)") != replaced {
			t.Errorf("%q serves: %v", path, err)
		}
		return server
	}
	install()
	l.must("prepare", l.domain())
	l.must("start", l.domain())
	old := serves(false)
	install()
	l.must("started", l.domain())
	l.must("reconnect", l.domain())
	if serves(true) != old {
		t.Error("the server of the guest that runs was replaced")
	}
	l.must("stopped", l.domain())
	l.must("release", l.domain())
	l.asBefore()
	l.must("prepare", l.domain())
	serves(false)
	l.must("release", l.domain())
}

// serverNeedsItsStarter until it is told to stay. The test starts one as the hook does.
func serverNeedsItsStarter(l *lab) {
	t := l.T
	start := func() (cmd *exec.Cmd, pair net.Conn, says *bufio.Reader) {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(ends[0]), "ours"), os.NewFile(uintptr(ends[1]), "theirs")
		defer ours.Close()
		defer theirs.Close()
		cmd = l.command("serve", "--starter-fd", "3")
		cmd.ExtraFiles = []*os.File{theirs}
		pair, err = net.FileConn(ours)
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pair.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, pair, bufio.NewReader(pair)
	}
	read := func(says *bufio.Reader, want string) {
		t.Helper()
		if line, err := says.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Fatalf("the server says %q (%v), want %q", line, err, want)
		}
	}
	cmd, _, says := start()
	read(says, "not wired")
	_ = cmd.Wait()

	if _, stderr, status := podtest.Run(t, l.command("prepare")); status != 0 {
		t.Fatal(stderr)
	}
	cmd, pair, says := start()
	read(says, "ready")
	pair.Close()
	podtest.Until(t, "the end of a server whose starter has gone", func() bool { return len(processes(t, l.Pod)) == 0 })
	if err := cmd.Wait(); err != nil {
		t.Errorf("a server whose starter has gone: %v", err)
	}

	cmd, pair, says = start()
	read(says, "ready")
	if _, err := pair.Write([]byte("stay\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := says.ReadByte(); err != io.EOF {
		t.Errorf("the server keeps the pair: %v", err)
	}
	if l.server() != cmd.Process.Pid {
		t.Error("a server that was told to stay has ended")
	}
	if _, stderr, status := podtest.Run(t, l.command("restore")); status != 0 { // and ends it
		t.Error(stderr)
	}
	_ = cmd.Wait()
}

// restoreEndsTheServer that the hook started: nobody else would, but for itself, where it notices that its interface was given
// back before restore looks for it.
func restoreEndsTheServer(l *lab) {
	l.must("prepare", l.domain())
	l.server()
	if _, stderr, status := podtest.Run(l.T, l.command("restore")); status != 0 {
		l.T.Error(stderr)
	}
	ended := func() bool { return len(processes(l.T, l.Pod)) == 0 }
	podtest.Until(l.T, "the server's end", ended)
	l.asBefore()

	l.must("prepare", l.domain(`interface="eth0"`, `interface="eth0" binding="redirect"`))
	l.server()
	l.In(l.Pod.Namespace, "nft delete table netdev podnic-eth0\nnft delete table inet podnic-eth0\nip link delete tap0")
	podtest.Until(l.T, "the end of a server without an interface", ended)
	if _, stderr, status := podtest.Run(l.T, l.command("restore")); status != 0 {
		l.T.Error(stderr)
	}
}

// hungServerIsKilled when it does not end by itself.
func hungServerIsKilled(l *lab) {
	l.must("prepare", l.domain())
	if err := syscall.Kill(l.server(), syscall.SIGSTOP); err != nil {
		l.T.Fatal(err)
	}
	l.must("release", l.domain())
}

// serverOfSomebodyElseIsNotEnded has the process id in the state file be that of another process, as after a reuse.
func serverOfSomebodyElseIsNotEnded(l *lab) {
	t := l.T
	vm := l.domain()
	l.must("prepare", vm)
	server := l.server()
	if err := process.End(t.Context(), server, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	bystander := podtest.Start(t, "a bystander", exec.Command("sleep", "600"))
	path := filepath.Join(l.stateDir, "eth0", "state.json")
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	from, to := fmt.Sprintf(`"pid": %d`, server), fmt.Sprintf(`"pid": %d`, bystander.PID())
	if !strings.Contains(string(state), from) {
		t.Fatalf("the state does not say who serves: %s", state)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(state), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.must("release", vm)
	l.asBefore()
	if !bystander.Lives() {
		t.Error("a process with the server's id was ended")
	}
}

// oneGuestGetsTheInterface starts two guests of the pod's at once, several times. The loser's release must not take the
// interface from the winner.
func oneGuestGetsTheInterface(l *lab) {
	t := l.T
	guests := []string{l.domain(), l.another()}
	for range 4 {
		failed := make([]bool, len(guests))
		var both sync.WaitGroup
		for i, xml := range guests {
			cmd := l.hook("prepare", xml)
			both.Go(func() { failed[i] = cmd.Run() != nil })
		}
		both.Wait()
		if failed[0] == failed[1] {
			t.Fatalf("failed: %v", failed)
		}
		winner, loser := 0, 1
		if failed[0] {
			winner, loser = 1, 0
		}
		server := l.server()
		l.must("release", guests[loser])
		if l.server() != server {
			t.Error("the release of the one that did not start ended the server of the other")
		}
		l.must("start", guests[winner])
		l.must("release", guests[winner])
		l.asBefore()
	}
}

// hookKilledAtAnyMoment kills the hook at moments all over a call. libvirt takes that for a failure, and calls again to
// release the guest.
func hookKilledAtAnyMoment(l *lab) {
	t := l.T
	vm := l.domain()
	moments := func(yield func(repeat.Moment) bool) {
		for i := range 16 {
			if !yield(repeat.After("prepare", time.Duration(i)*2*time.Millisecond)) {
				return
			}
		}
	}
	for moment := range repeat.Moments(t, moments) {
		cmd := l.hook("prepare", vm)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		podtest.Until(t, "the hook", func() bool { return len(processes(t, l.Pod)) > 0 || cmd.Process.Signal(syscall.Signal(0)) != nil })
		// The time is not one that something must be done in: it spreads the kills over a call.
		time.Sleep(moment.After)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		l.must("release", vm)
		// A server whose hook was killed ends when it finds out.
		podtest.Until(t, "the end of the server", func() bool { return len(processes(t, l.Pod)) == 0 })
		l.asBefore()
	}
}

// eachCallIsBounded hangs a call in each way that can be brought about: in a read of its input, in a lock, and in a
// system call.
func eachCallIsBounded(l *lab) {
	t := l.T
	const timeout = "PODNIC_HOOK_TIMEOUT=1s"
	words := []string{"(1s)", "hook.timeout"}

	t.Run("input", func(t *testing.T) {
		l := l.in(t)
		for _, test := range []struct {
			operation, xml, env string
			status              int
			words               []string
		}{
			{"prepare", "", "PODNIC_HOOK_DOMAINS=vm", 1, append(words, "XML")},
			{"reconnect", "", "PODNIC_HOOK_DOMAINS=vm", 0, append(words, "XML")},
			{"prepare", l.domain()[:200], "", 1, append(words, "XML")},
			{"prepare", l.domain(metadata, "")[:200], "", 0, append(words, "nothing")},
			{"prepare", "", "", 0, append(words, "nothing")},
			{"prepare", "", "PODNIC_HOOK_DOMAINS=[a", 0, append(words, "nothing")},
		} {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := writer.WriteString(test.xml); err != nil {
				t.Fatal(err)
			}
			cmd := l.hook(test.operation, "", timeout, test.env)
			cmd.Stdin = reader
			l.refused(test.status, cmd, test.words...)
			reader.Close()
			writer.Close()
		}
	})
	t.Run("lock", func(t *testing.T) {
		l := l.in(t)
		lock, err := os.Open(l.Pod.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		// It gives up a tenth of the time before, which is to be enough to say so.
		l.refused(2, l.hook("prepare", l.domain(), "PODNIC_HOOK_TIMEOUT=5s"), "another podnic")
	})
	t.Run("another call", func(t *testing.T) {
		l := l.in(t)
		lock, err := os.Open(filepath.Join(l.stateDir, ".podnic", "hook.lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		l.refused(1, l.hook("prepare", l.domain(), timeout), append(words, "wait for another call")...)
	})
	t.Run("system call", func(t *testing.T) {
		l := l.in(t)
		// To open what is on a file system takes for ever when nobody answers for it, as with a server that cannot be reached.
		hung := filepath.Join(l.stateDir, "eth0")
		thaw := mountHung(t, hung)
		l.refused(1, l.hook("prepare", l.domain(), timeout), append(words, "inspect the namespace")...)
		l.refused(0, l.hook("reconnect", l.domain(), timeout), words...)
		thaw()
	})
	l.asBefore()
	if log := l.log(); strings.Count(log, "\n") != 7 || strings.Count(log, "hook.timeout") != 6 {
		t.Errorf("the log is\n%s", log)
	}
}

// mountHung mounts a file system (fuse(4)) on a directory that it makes, whose server never says a word.
func mountHung(t *testing.T, dir string) (unmount func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0", fd)))
	}
	if err != nil {
		t.Fatal(err)
	}
	unmount = sync.OnceFunc(func() {
		// Whoever waits is let go as soon as there is no server.
		if err := errors.Join(unix.Close(fd), unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unmount)
	return unmount
}

// configurationHasAPlace that is read without being named: the domain's name, the state directory and the resolver are in
// it alone. The file is put there for the call's own eyes.
func configurationHasAPlace(l *lab) {
	file := filepath.Join(l.T.TempDir(), "podnic.yaml")
	config := fmt.Sprintf("hook:\n  domains: ['v?']\nstate-dir: %s\ndns: [10.96.0.99]\n", l.stateDir)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		l.T.Fatal(err)
	}
	const script = "mount -t tmpfs tmpfs /etc && install -D $0 /etc/podnic/podnic.yaml && exec \"$@\""
	call := func(operation, sub string) {
		cmd := l.Pod.Command(l.T.Context(), "sh", "-c", script, file, l.Podnic, "hook", "vm", operation, sub, "-")
		cmd.Stdin = strings.NewReader(l.domain(metadata, ""))
		if stdout, stderr, status := podtest.Run(l.T, cmd); status != 0 || stdout != "" || stderr != "" {
			l.T.Fatalf("%s: exit status %d, %q, %q", operation, status, stdout, stderr)
		}
	}
	call("prepare", "begin")
	l.server()
	if out, _, _ := podtest.Run(l.T, l.command("status")); !strings.Contains(out, "10.96.0.99") {
		l.T.Errorf("the server does not know the configuration:\n%s", out)
	}
	call("release", "end")
}

// brokenConfiguration stops no domain but those that might be podnic's.
func brokenConfiguration(l *lab) {
	t := l.T
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte("hook: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := "PODNIC_CONFIG=" + file
	foreign := l.domain(metadata, "")
	l.refused(2, l.hook("prepare", l.domain(), config), file)
	l.refused(2, l.hook("prepare", foreign, config), file) // it has a tap
	l.refused(0, l.hook("reconnect", foreign, config), file)
	l.refused(2, l.hook("prepare", foreign, "PODNIC_HOOK_DOMAINS=[a"), "[a")
	plain := strings.Replace(foreign, "type='ethernet'", "type='user'", 1)
	l.must("prepare", plain, config)
	l.must("prepare", plain, "PODNIC_HOOK_DOMAINS=[a")
	l.asBefore()

	// A guest that has ended gives back what it was given, also one that was podnic's by its name alone.
	for _, content := range []string{"hook: [\n", "tap-owner: -7\npod-ports: [80/sctp]\ninterface: 'eth0,queues=x'\ncolour: red\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for xml, named := range map[string]string{l.domain(): "", foreign: "PODNIC_HOOK_DOMAINS=v?"} {
			l.must("prepare", xml, named)
			l.server()
			cmd := l.hook("release", xml, config)
			if named != "" && content != "hook: [\n" {
				cmd.Env = append(cmd.Env, named)
			}
			if _, stderr, status := podtest.Run(t, cmd); status != 0 || !strings.Contains(stderr, "podnic: warning: ") {
				t.Errorf("release by %q: exit status %d, %s", content, status, stderr)
			}
			l.asBefore()
		}
	}
}

// serverIsDetached looks at the server as the kernel sees it: nothing of it may tie it to the hook, or to libvirt.
func serverIsDetached(l *lab) {
	t := l.T
	extra, err := os.Open(os.DevNull) // as a careless daemon might leave to its hook
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	cmd := l.hook("prepare", l.domain())
	cmd.ExtraFiles = []*os.File{extra, extra, extra}
	if _, stderr, status := podtest.Run(t, cmd); status != 0 {
		t.Fatalf("prepare: %d: %s", status, stderr)
	}
	server := l.server()
	descriptors := map[int]string{}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", server))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		descriptors[fd], _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", server, fd))
	}
	log := filepath.Join(l.stateDir, ".podnic", "serve.log")
	if descriptors[0] != os.DevNull || descriptors[1] != log || descriptors[2] != log {
		t.Errorf("the three descriptors are %q, %q, %q", descriptors[0], descriptors[1], descriptors[2])
	}
	delete(descriptors, 0)
	for fd, path := range descriptors {
		if path == os.DevNull || strings.HasPrefix(path, "pipe:") {
			t.Errorf("it has inherited descriptor %d, %s", fd, path)
		}
	}
	if session, err := unix.Getsid(server); err != nil || session != server {
		t.Errorf("its session is %d (%v), its process id %d", session, err, server)
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", server)); err != nil || dir != "/" {
		t.Errorf("its directory is %s (%v)", dir, err)
	}
	l.must("release", l.domain())
	l.asBefore()
}
