package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/podtest"
)

// TestNetworkStartsWithTheGuest is what libvirt does to guests, one thing after the other, under one daemon. After each the
// pod is what it was.
func TestNetworkStartsWithTheGuest(t *testing.T) {
	s := newSite(t)
	for _, test := range []struct {
		name string
		run  func(*site)
	}{
		{"install", install},
		{"reboot, destroy, start again", rebootAndStartAgain},
		{"redirected", redirected},
		{"daemon restarted, server killed", daemonRestarted},
		{"QEMU killed", qemuKilled},
		{"saved and restored", savedAndRestored},
		{"start fails after prepare", startFails},
		{"hook killed", hookKilled},
		{"domain does not fit", domainDoesNotFit},
		{"podnic run", besidePodnicRun},
		{"two domains", twoDomains},
		{"somebody else's hooks", otherHooks},
	} {
		t.Run(test.name, func(t *testing.T) {
			inner := *s
			inner.Site = s.For(t)
			test.run(&inner)
			inner.asBefore()
		})
	}
}

// install makes podnic the hook of a daemon that runs. It is not called before the daemon has looked for hooks again.
func install(s *site) {
	if out := s.must(s.Podnic, "hook", "install"); !strings.Contains(out, "restart") || !strings.Contains(out, "SIGHUP") {
		s.T.Errorf("hook install does not say that libvirtd must be restarted: %s", out)
	}
	s.define(metadata, "") // and metadata are as good afterwards
	s.virsh("metadata", "vm", "urn:podnic:domain:1", "--key", "podnic", "--set", "<pod/>", "--config")
	if _, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm"); err == nil || !strings.Contains(err.Error(), "specified dev doesn't exist") {
		s.T.Errorf("without a hook: %v", err)
	}
	s.must("sh", "-c", "kill -HUP $(cat "+filepath.Join(filepath.Dir(s.libvirtd.Socket), "libvirtd.pid")+")")
	podtest.Until(s.T, "libvirtd to call the hook", func() bool {
		_, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm")
		return err == nil
	})
	s.virsh("destroy", "vm")
	s.must("rm", "-r", "/run/podnic") // a log of its own for those who come after
}

func rebootAndStartAgain(s *site) {
	console := s.define()
	s.virsh("start", "vm")
	s.ready()
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	s.hello()
	server := s.server()

	// Once the answer is out.
	if _, err := s.client().Run(s.T.Context(), "{ sleep 1; reboot -f; } >/dev/null 2>&1 &"); err != nil {
		s.T.Fatal(err)
	}
	podtest.WaitTimes(s.T, console, "guest: ready", 2)
	s.hello()
	if after := s.server(); after != server {
		s.T.Errorf("the reboot replaced the server %d by %d", server, after)
	}

	s.virsh("destroy", "vm")
	s.asBefore()
	if did := s.last("stopped").Did; len(did) != 2 {
		s.T.Errorf("stopped did %q", did)
	}

	again := s.define() // with a console of its own
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, again, "guest: lease", 1)
	s.virsh("destroy", "vm")
	for _, operation := range []string{"prepare", "start", "started", "stopped", "release"} {
		if calls := s.calls(operation); len(calls) != 2 || calls[1].Outcome != "done" || calls[1].Guest != "vm" {
			s.T.Errorf("two starts and two ends left this of %s: %+v", operation, calls)
		}
	}
}

// redirected has the domain's metadata ask for the binding.
func redirected(s *site) {
	console := s.define(`interface="eth0"/`, `interface="eth0" binding="redirect"/`)
	s.virsh("start", "vm")
	s.ready()
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	s.hello()
	if out := s.must(s.Podnic, "status", "-o", "json"); !strings.Contains(out, `"binding": "redirect"`) || strings.Contains(out, `"nic":`) {
		s.T.Errorf("status: %s", out)
	}
	s.virsh("destroy", "vm")
}

func daemonRestarted(s *site) {
	console := s.define()
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	server, qemu := s.server(), s.qemu()

	s.reconnect()
	if s.server() != server || s.qemu() != qemu {
		s.T.Error("a restart of libvirtd replaced the server or the guest")
	}
	if e := s.last("reconnect"); e.Outcome != "done" || len(e.Did) > 0 {
		s.T.Errorf("reconnect found something to do: %+v", e)
	}
	s.hello()

	s.kill(server)
	if out := s.must(s.Podnic, "status"); !strings.Contains(out, "nobody serves it") || len(processes(s.T, s.Pod)) > 0 {
		s.T.Errorf("status does not report, or does not only report, a dead server:\n%s", out)
	}
	s.reconnect()
	if after := s.server(); after == server || s.qemu() != qemu {
		s.T.Errorf("server %d, guest %d; before, %d and %d", after, s.qemu(), server, qemu)
	}
	if _, err := s.client().Run(s.T.Context(), "killall -USR1 udhcpc"); err != nil { // it renews its lease
		s.T.Fatal(err)
	}
	podtest.WaitTimes(s.T, console, "guest: renewed", 1)
	s.ready()
	s.hello()

	// Drift is mended without taking the guest's network.
	if _, err := s.Pod.Output(s.T.Context(), "ip", "link", "set", "eth0-br", "down"); err != nil {
		s.T.Fatal(err)
	}
	s.reconnect()
	if e := s.last("reconnect"); !slices.ContainsFunc(e.Did, func(did string) bool { return strings.Contains(did, "mended") }) {
		s.T.Errorf("reconnect did not mend the wiring: %+v", e)
	}
	s.hello()

	// What cannot be mended must not end the guest.
	s.must("sh", "-c", "mv /run/podnic/eth0/record.json /run/podnic/eth0/kept && mkdir /run/podnic/eth0/record.json")
	s.reconnect()
	if e := s.last("reconnect"); e.Outcome == "done" || s.qemu() != qemu {
		s.T.Errorf("reconnect ended the guest, or had nothing to complain of: %+v", e)
	}
	s.must("sh", "-c", "rmdir /run/podnic/eth0/record.json && mv /run/podnic/eth0/kept /run/podnic/eth0/record.json")
	s.virsh("destroy", "vm")
}

// reconnect restarts the daemon, and waits until it has found its guest again: it does so after it answers.
func (s *site) reconnect() {
	s.T.Helper()
	before := len(s.calls("reconnect"))
	s.restart()
	podtest.Until(s.T, "libvirt to find its guest", func() bool {
		return len(s.calls("reconnect")) > before && len(processes(s.T, s.Pod)) == 1 // the hook has ended, too
	})
}

func qemuKilled(s *site) {
	console := s.define()
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, console, "guest: up", 1)
	s.kill(s.qemu())
	s.gone()
}

// savedAndRestored has libvirt write the guest to a file, which is an end, and start it from there: then the hook could change
// its XML, and does not.
func savedAndRestored(s *site) {
	console := s.define()
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	s.virsh("managedsave", "vm")
	s.asBefore()
	s.virsh("start", "vm")
	s.hello()
	if calls := s.calls("restore"); len(calls) != 1 || calls[0].Outcome != "done" || len(calls[0].Did) > 0 {
		s.T.Errorf("restore: %+v", calls)
	}
	if strings.Count(console.Text(), "guest: up") > 1 {
		s.T.Error("the guest was started anew")
	}
	s.virsh("destroy", "vm")
}

// gone waits until the hook has been told that the guest is gone. libvirtd finds out by itself, after QEMU has ended.
func (s *site) gone() {
	s.T.Helper()
	podtest.Until(s.T, "libvirt to release the guest", func() bool {
		stopped, released := s.calls("stopped"), s.calls("release")
		return len(s.calls("prepare")) == len(released) && len(stopped) > 0 && len(processes(s.T, s.Pod)) == 0
	})
}

// startFails has an emulator that answers what libvirt asks before the start, and fails when it is to run the guest.
func startFails(s *site) {
	emulator := filepath.Join(s.T.TempDir(), "qemu")
	script := "#!/bin/sh\ncase \"$*\" in *guest=vm*) exit 1 ;; esac\nexec qemu-system-x86_64 \"$@\"\n"
	podtest.Executable(s.T, emulator, []byte(script))
	s.define("<devices>", "<devices><emulator>"+emulator+"</emulator>")
	prepared := len(s.calls("prepare"))
	if out, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm"); err == nil {
		s.T.Fatalf("it started: %s", out)
	}
	if calls := s.calls("prepare"); len(calls) != prepared+1 || calls[prepared].Outcome != "done" {
		s.T.Errorf("the start did not fail after prepare: %+v", calls)
	}
}

// hookKilled kills the hook while it waits for the namespace, which somebody else has locked. libvirt takes it for a failure,
// and calls again to release the guest.
func hookKilled(s *site) {
	s.define()
	lock, err := os.Open(s.Pod.Path)
	if err != nil {
		s.T.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		s.T.Fatal(err)
	}
	started := make(chan error, 1)
	go func() {
		_, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm")
		started <- err
	}()
	var hooks []int
	podtest.Until(s.T, "the hook", func() bool { hooks = processes(s.T, s.Pod); return len(hooks) == 1 })
	s.kill(hooks[0])
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		s.T.Fatal(err)
	}
	if err := <-started; err == nil {
		s.T.Error("the guest started although its hook was killed")
	}
}

// domainDoesNotFit starts domains that ask for what the pod does not have. virsh shows what to change.
func domainDoesNotFit(s *site) {
	for _, test := range []struct{ from, to, want string }{
		{s.MAC.String(), "52:54:00:12:34:56", "change <mac address='52:54:00:12:34:56'/> to address='" + s.MAC.String() + "'"},
		{"<model type='virtio'/>", "<model type='virtio'/><mtu size='9000'/>", "change <mtu size='9000'/> to size='1500'"},
		{" managed='no'", "", "managed='no'"},
	} {
		s.define(test.from, test.to)
		if _, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm"); err == nil || !strings.Contains(err.Error(), test.want) {
			s.T.Errorf("%s: %v", test.to, err)
		}
		s.asBefore()
	}
}

// besidePodnicRun has podnic run start a guest that is the hook's as well. The hook uses what is there, and both agree on the
// end.
func besidePodnicRun(s *site) {
	dir := s.T.TempDir()
	file, path := filepath.Join(dir, "domain.xml"), filepath.Join(dir, "console")
	xml, err := guest.Domain{Name: "run", Image: s.image, KVM: s.libvirtd.KVM, Console: path, Metadata: metadata}.XML()
	if err == nil {
		err = os.WriteFile(file, []byte(xml), 0o600)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	console := podtest.Console(s.T, path)
	run := s.libvirtd.Command(s.T.Context(), s.Podnic, "run", "--domain", file, "--connect", s.libvirtd.URI)
	var said strings.Builder
	run.Stderr = &said
	if err := run.Start(); err != nil {
		s.T.Fatal(err)
	}
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	s.hello()
	if e := s.last("prepare"); e.Guest != "run" || e.Outcome != "done" || len(e.Did) > 0 {
		s.T.Errorf("beside podnic run, prepare did %+v", e)
	}
	s.virsh("destroy", "run")
	const destroyedByOther = 6
	if _ = run.Wait(); run.ProcessState.ExitCode() != destroyedByOther {
		s.T.Errorf("podnic run: %v\n%s", run.ProcessState, said.String())
	}
}

// plain is a domain that boots nothing.
const plain = `<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices><memballoon model='none'/></devices></domain>`

// twoDomains has a guest that is not podnic's come and go beside one that is.
func twoDomains(s *site) {
	s.defineXML(fmt.Sprintf(plain, "foreign"))
	s.virsh("start", "foreign")
	if len(processes(s.T, s.Pod)) > 0 {
		s.T.Error("a domain that is not podnic's is served")
	}
	if diff := s.Before.Diff(podtest.State(s.T, s.Pod.Namespace)); diff != "" {
		s.T.Errorf("a domain that is not podnic's changed the pod:\n%s", diff)
	}
	console := s.define()
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, console, "guest: ready", 1)
	s.virsh("destroy", "foreign")
	s.hello()

	// A second one of podnic's does not get the interface, and what it leaves does not take it from the first.
	s.defineXML(strings.Replace(strings.Replace(fmt.Sprintf(plain, "second"), "<memory", metadata+"<memory", 1),
		"<devices>", "<devices>"+nic(s.MAC.String()), 1))
	if _, err := s.libvirtd.Virsh(s.T.Context(), "start", "second"); err == nil || !strings.Contains(err.Error(), `held by the guest "vm"`) {
		s.T.Errorf("a second guest of the pod's: %v", err)
	}
	s.hello()
	s.virsh("destroy", "vm")
	for _, operation := range []string{"prepare", "release"} {
		if slices.ContainsFunc(s.calls(operation), func(e podtest.Call) bool { return e.Guest == "foreign" }) {
			s.T.Error("the log has a domain that is not podnic's")
		}
	}
	s.virsh("undefine", "foreign")
	s.virsh("undefine", "second")
}

// otherHooks puts scripts of somebody else before and after podnic. They are found at the next call, without a restart,
// and one that fails has the start fail and the pod restored.
func otherHooks(s *site) {
	log := filepath.Join(s.T.TempDir(), "log")
	script := "#!/bin/sh\ncat >/dev/null\necho \"$0 $*\" >>" + log + "\n"
	for _, path := range []string{"/etc/libvirt/hooks/qemu", "/etc/libvirt/hooks/qemu.d/zz"} {
		s.must("sh", "-c", "cat >"+path+" <<'END'\n"+script+"END\nchmod 755 "+path)
	}
	if out := s.must(s.Podnic, "hook", "install"); !strings.Contains(out, "there already") {
		s.T.Errorf("install again: %s", out)
	}
	console := s.define()
	s.virsh("start", "vm")
	podtest.WaitTimes(s.T, console, "guest: up", 1)
	s.virsh("destroy", "vm")
	said, err := os.ReadFile(log)
	if err != nil {
		s.T.Fatal(err)
	}
	for _, name := range []string{"qemu", "qemu.d/zz"} {
		for _, operation := range []string{"prepare begin -", "started begin -", "release end -"} {
			if want := "/etc/libvirt/hooks/" + name + " vm " + operation; !strings.Contains(string(said), want) {
				s.T.Errorf("%q did not run:\n%s", want, said)
			}
		}
	}
	s.asBefore()

	s.must("sh", "-c", "echo 'test $2 != prepare' >>/etc/libvirt/hooks/qemu.d/zz")
	if _, err := s.libvirtd.Virsh(s.T.Context(), "start", "vm"); err == nil {
		s.T.Error("the guest started although a hook failed")
	}
	s.asBefore()
	s.must(s.Podnic, "hook", "uninstall")
	if left := s.must("find", "/etc/libvirt/hooks", "-name", "podnic*"); left != "" {
		s.T.Errorf("uninstall left %s", left)
	}
	s.must("rm", "-r", "/etc/libvirt/hooks")
}
