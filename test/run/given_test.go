package run

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestRunWithoutCapabilitiesTakesTheWiringThatIsThere has the wiring made from outside, as a CNI plugin does, and runs
// podnic as an ordinary user. Its libvirt is the test driver, which has no guest and so needs no emulator.
func TestRunWithoutCapabilitiesTakesTheWiringThatIsThere(t *testing.T) {
	podtest.NeedRoot(t)
	const user = "107"
	podnic := podtest.Program(t)
	vm := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Hostname: "vm-0", Network: pod.PTP})
	// A directory of the test's own lies in one that the user may not enter.
	state, err := os.MkdirTemp("", "podnic-state-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	if err := os.Chown(state, 107, 107); err != nil {
		t.Fatal(err)
	}
	const xml = `<domain type='test'><name>vm</name><memory>1024</memory><os><type>hvm</type></os></domain>`
	run := func() *podtest.Process {
		cmd := vm.Command(context.Background(), "setpriv", "--reuid", user, "--regid", user, "--clear-groups",
			"--bounding-set", "-all", "--inh-caps", "-all",
			podnic, "run", "--connect", "test:///default", "--state-dir", state, "--domain", "-")
		cmd.Stdin = strings.NewReader(xml)
		return podtest.Start(t, "podnic run", cmd)
	}

	a := run()
	a.Exits(2)
	if !strings.Contains(a.Output(), "CAP_NET_ADMIN") {
		t.Errorf("where nothing is wired it said: %s", a.Output())
	}

	if _, err := vm.Output(t.Context(), "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"); err != nil {
		t.Fatal(err)
	}
	before, records := podtest.State(t, vm.Namespace), t.TempDir()
	wiring := []string{"prepare", "--socket", "udp", "--tap-owner", user, "--state-dir", records}
	if out, err := vm.Command(t.Context(), podnic, wiring...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a = run()
	a.Says("guest started")
	a.Signal(syscall.SIGTERM)
	a.Exits(0)
	out, err := vm.Command(t.Context(), podnic, append(wiring, "--dry-run")...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nothing to do") {
		t.Errorf("the wiring is not as it was given: %v: %s", err, out)
	}
	if out, err := vm.Command(t.Context(), podnic, "restore", "--state-dir", records).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := before.Diff(podtest.State(t, vm.Namespace)); diff != "" {
		t.Errorf("the namespace is not as before:\n%s", diff)
	}
}
