package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
	"golang.org/x/sys/unix"
)

// in writes a file below a root of the test's own.
func in(t *testing.T, root, path string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
}

func (o outcome) expect(t *testing.T, status Status, says string) {
	t.Helper()
	if text := o.reason + " → " + o.remedy; o.status != status || !strings.Contains(text, says) {
		t.Errorf("want %s, %q, and got %s: %s", status, says, o.status, text)
	}
}

func TestHook(t *testing.T) {
	root := t.TempDir()
	v := &visit{Examination: Examination{Root: root, ConnectTimeout: time.Second}}
	v.hook().expect(t, OK, "there is no qemu hook")
	in(t, root, hookDir+"/qemu", 0o644)
	v.hook().expect(t, Fail, "/etc/libvirt/hooks/qemu cannot be executed")
	if err := os.Chmod(filepath.Join(root, hookDir, "qemu"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.hook().expect(t, OK, "/etc/libvirt/hooks/qemu (")

	link := filepath.Join(root, hookDir, "qemu.d", "podnic")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "podnic"), link); err != nil {
		t.Fatal(err)
	}
	v.hook().expect(t, Fail, "qemu.d/podnic leads nowhere")
	in(t, root, "podnic", 0o755)
	v.hook().expect(t, OK, "/etc/libvirt/hooks/qemu, /etc/libvirt/hooks/qemu.d/podnic")
	if err := os.Chmod(filepath.Join(root, "podnic"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.hook().expect(t, Fail, "qemu.d/podnic cannot be executed")

	// A container whose libvirt calls podnic has no need of the helper, but then.
	t.Setenv("PATH", root)
	v.reachLibvirt().expect(t, Fail, "podnic-libvirt")
	v.libvirt = libvirt{}
	if err := errors.Join(os.Remove(link), os.Symlink("/proc/self/exe", link)); err != nil {
		t.Fatal(err)
	}
	v.reachLibvirt().expect(t, OK, "podnic is libvirt's hook here")
}

// TestRefusalKeepsItsOwnRemedy, and gets none that is for something else.
func TestRefusalKeepsItsOwnRemedy(t *testing.T) {
	for _, tt := range []struct {
		err            error
		reason, remedy string
	}{
		{plan.Options{Queues: 300}.Check(), "a tap has 1 to 256 queues, not 300", "choose another number with --queues (in a CNI configuration, queues)"},
		{plan.Options{Tap: "a/b"}.Check(), `"a/b" cannot be the name of a link`, "choose one of 1 to 15 characters without slash, colon or space with --tap (in a CNI configuration, tap)"},
		{plan.Options{Socket: "tcp"}.Check(), `no socket is called "tcp"`, "--socket takes packet or udp"},
		{plan.Refuse("it cannot be"), "it cannot be", ""},
		{errors.New("netlink: no buffer space"), "netlink: no buffer space", ""},
	} {
		pod := slices.IndexFunc(checks, func(c check) bool { return c.name == "pod" })
		c := checks[pod]
		c.run = func(*visit) outcome { return refusal(Fail, tt.err) }
		want := Finding{Check: "pod", Status: Fail, Reason: tt.reason, Remedy: tt.remedy}
		if diff := cmp.Diff(want, new(visit).run(c)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestKVM(t *testing.T) {
	v := &visit{Examination: Examination{Root: t.TempDir()}}
	v.kvm().expect(t, Warn, "there is no /dev/kvm")
	in(t, v.Root, "/dev/kvm", 0o666)
	v.kvm().expect(t, Unknown, "nothing to try it with")
	v.ProbeKVM = []string{"sh", "-c", "echo KVM_CREATE_VM: no such thing; exit 1"}
	v.kvm().expect(t, Fail, "does not run guests: KVM_CREATE_VM: no such thing")
	v.ProbeKVM = []string{"sh", "-c", "kill -9 $$"}
	v.kvm().expect(t, Fail, "killed")
	v.ProbeKVM = []string{"sh", "-c", "echo works"}
	v.kvm().expect(t, OK, "runs a guest")
	unopened(&os.PathError{Op: "open", Path: "/dev/kvm", Err: unix.EPERM}).expect(t, Fail, "device cgroup")
	unopened(&os.PathError{Op: "open", Path: "/dev/kvm", Err: unix.EACCES}).expect(t, Unknown, "emulator's user")
	unopened(&os.PathError{Op: "open", Path: "/dev/kvm", Err: unix.ENODEV}).expect(t, Fail, "no such device")
	if err := ProbeKVM(filepath.Join(v.Root, "/dev/kvm")); err == nil || !strings.Contains(err.Error(), "KVM_GET_API_VERSION") {
		t.Errorf("a file is a KVM: %v", err)
	}
}

func TestKVMThatHangsIsLeftAlone(t *testing.T) {
	limit := kvmTime
	defer func() { kvmTime = limit }()
	kvmTime = 100 * time.Millisecond
	v := &visit{Examination: Examination{Root: t.TempDir(), ProbeKVM: []string{"sh", "-c", "exec sleep 1000"}}}
	in(t, v.Root, "/dev/kvm", 0o666)
	v.kvm().expect(t, Fail, "hung")
}

// TestUnknownLinkKindFails: the kinds that a kernel has cannot be taken from it, but one can be asked for that it has not.
func TestUnknownLinkKindFails(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("makes a network namespace, and so needs root and more than unit tests wanted")
	}
	ns, err := network.OpenNamespace("")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	kinds := probe.LinkKinds
	defer func() { probe.LinkKinds = kinds }()
	v := &visit{ns: ns}
	probe.LinkKinds = []string{"nonsense"}
	v.linkKinds().expect(t, Fail, "load the module nonsense")
	probe.LinkKinds = kinds
	v.linkKinds().expect(t, OK, "bridge")
}

func TestText(t *testing.T) {
	r := &Report{Findings: []Finding{
		{"kernel", "", OK, "Linux 6.12", ""},
		{"kvm", "", Fail, "a reason that is so long that it takes more than the one line that a terminal has for it", "mend it"},
		{"pod", "", Unknown, "this is no pod", "go there"},
		{"wiring", "", Unknown, "this is no pod", "go there"},
		{"mtu", "", Unknown, "this is no pod", "go there"},
		{"mac", "", Unknown, "something else", "look"},
	}}
	const want = `ok       kernel  Linux 6.12
fail     kvm     a reason that is so long that it takes more than the one line
                 that a terminal has for it
                 → mend it
unknown  pod     this is no pod; so too for wiring, mtu
                 → go there
unknown  mac     something else
                 → look
1 ok, 1 fail, 4 unknown
`
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestScrub has a secret in each form that is known, and what only looks like one.
func TestScrub(t *testing.T) {
	const secret = "Tr0ub4dor"
	for _, text := range []string{
		"password=" + secret, "PASSWD: " + secret, `"password": "` + secret + `"`, `{"msg":"token=\"` + secret + `\" is wrong"}`,
		"api_key=" + secret, "Authorization: Bearer " + secret, "https://me:" + secret + "@example.org/x", "secret = '" + secret + "'",
	} {
		if got := string(scrub([]byte(text))); strings.Contains(got, secret) || !strings.Contains(got, "left-out") {
			t.Errorf("%s became %s", text, got)
		}
	}
	if got := string(scrub([]byte(`"224=hex:54723075"`))); got != `"224=hex:left-out"` {
		t.Errorf("an option became %s", got)
	}
	for _, text := range []string{"https://example.org/a@b", "0a:58:0a:f4:01:05", "tokens are not here", "10.244.1.5/24"} {
		if got := string(scrub([]byte(text))); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}

// TestEveryCheckIsDocumented: each is a row of the document's table.
func TestEveryCheckIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if !strings.Contains(string(b), "\n| `"+name+"` | ") {
			t.Errorf("docs/doctor.md has no row for %s", name)
		}
	}
	if n := strings.Count(string(b), "\n| `"); n != len(checks) {
		t.Errorf("docs/doctor.md has %d rows, and there are %d checks", n, len(checks))
	}
}
