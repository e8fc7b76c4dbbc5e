// Package command tests `podnic run -- COMMAND` as its users run it: the built program, in pods made by real CNI plugins, with
// QEMU and no libvirt.
package command

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// site is a pod, and another one that talks to it.
type site struct {
	*podtest.Site
	other *pod.Pod
}

func newSite(t *testing.T) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	s := &site{Site: podtest.NewSite(t, node, pod.PTP)}
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
	s.Remember()
	return s
}

// qemu is the command line of a guest.
func (s *site) qemu(console string, devices ...string) []string {
	s.T.Helper()
	kvm, err := guest.KVM(s.T.Context())
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := guest.Machine{
		Image: podtest.Guest(s.T), KVM: kvm, Serial: []string{console}, Arguments: []string{"podnic.carrier"}, Devices: devices,
	}.Command(s.T.Context())
	return cmd.Args
}

// TestCommandIsThePod runs QEMU in the ways in which it takes a tap, each with a binding of its own, and ends it in those in
// which it ends. With its monitor,
// the guest's carrier is that of the pod's interface.
func TestCommandIsThePod(t *testing.T) {
	s := newSite(t)
	const card = "virtio-net-pci,netdev=n0,mac=$(PODNIC_MAC),host_mtu=$(PODNIC_MTU)"
	for _, test := range []struct {
		name    string
		binding string
		flags   []string
		devices []string
		qmp     bool
		says    string // the guest's shutdown, if it is asked
	}{
		{
			name:    "by name",
			binding: "bridge",
			devices: []string{"-netdev", "tap,id=n0,ifname=$(PODNIC_TAP),script=no,downscript=no", "-device", card},
		},
		{
			name:    "by descriptor",
			binding: "redirect",
			flags:   []string{"--tap-fd"},
			devices: []string{"-netdev", "tap,id=n0,fd=$(PODNIC_TAP_FD)", "-device", card},
			qmp:     true, says: "guest: bye",
		},
		{
			name:    "two queues",
			binding: podtest.ByTC,
			flags:   []string{"--tap-fd", "--queues", "2"},
			devices: []string{"-netdev", "tap,id=n0,fds=$(PODNIC_TAP_FD),vhost=off", "-device", card + ",mq=on,vectors=6"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &site{Site: s.For(t), other: s.other}
			dir := t.TempDir()
			file := filepath.Join(dir, "console")
			args := slices.Concat([]string{"run", s.Bind(test.binding)}, test.flags)
			devices := test.devices
			if test.qmp {
				socket := filepath.Join(dir, "qmp")
				args, devices = append(args, "--qmp", socket), append(devices, "-qmp", "unix:"+socket+",server=on,wait=off")
			}
			p := s.Start(slices.Concat(args, []string{"--"}, s.qemu(file, devices...))...)
			ready := s.Ready()
			client := guest.Client{Address: s.Pod.Address.Addr(), Dial: s.other.DialContext}
			if _, err := client.Hello(t.Context()); err != nil {
				t.Errorf("the other pod does not reach the guest: %v", err)
			}
			if i := ready.Interfaces[0]; i.MAC != s.MAC.String() || !strings.HasPrefix(test.binding, i.Binding) {
				t.Errorf("the guest has the MAC %s, by the binding %s", i.MAC, i.Binding)
			}
			if test.qmp {
				s.carrierIsThePods(p, podtest.Console(t, file), client)
			}
			p.Signal(syscall.SIGTERM)
			p.Exits(0) // QEMU ends with 0 when it is told to end
			if test.says != "" {
				if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), test.says) {
					t.Errorf("the guest did not shut itself down: %v\n%s", err, text)
				}
			}
			s.AsBefore()
		})
	}
}

// carrierIsThePods takes the carrier of the pod's interface away, and gives it back.
func (s *site) carrierIsThePods(p *podtest.Process, console *guest.Console, client guest.Client) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), podtest.Patience)
	defer cancel()
	sees := func(carrier string, times int) {
		s.T.Helper()
		if _, err := console.WaitTimes(ctx, "guest: carrier "+carrier, times); err != nil {
			s.T.Fatal(err)
		}
	}
	s.carrier("down")
	sees("0", 1)
	p.Says("the guest's link is down")
	lowered := func() bool { return s.Status().Interfaces[0].GuestLink.Lowered }
	podtest.Until(s.T, "status says that the guest's link is down", lowered)
	s.carrier("up")
	sees("1", 2)
	p.Says("the guest's link is up")
	if _, err := client.Hello(ctx); err != nil {
		s.T.Errorf("with its carrier back, the guest has no network: %v", err)
	}
	podtest.Until(s.T, "status says that the guest's link is up", func() bool { return !lowered() })
}

// carrier sets the node's end of the pod's link up or down.
func (s *site) carrier(state string) {
	s.T.Helper()
	s.In(s.Node.Namespace, "ip link set "+s.Pod.HostLink+" "+state)
}

// TestExitStatusIsTheCommands has commands that run no guest. Whatever they do, the pod is as before.
func TestExitStatusIsTheCommands(t *testing.T) {
	s := newSite(t)
	plain := filepath.Join(t.TempDir(), "plain")
	bad := filepath.Join(t.TempDir(), "bad")
	for path, mode := range map[string]os.FileMode{plain: 0o600, bad: 0o700} {
		if err := os.WriteFile(path, []byte("#!/no/such/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"its own", []string{"--", "sh", "-c", "exit 7"}, 7, "exited with status 7"},
		{"zero", []string{"--", "true"}, 0, ""},
		{"of a signal", []string{"--", "sh", "-c", "kill -KILL $$"}, 128 + 9, "SIGKILL"},
		{"not found", []string{"--", "podnic-no-such-program"}, 127, "podnic-no-such-program"},
		{"not executable", []string{"--", plain}, 126, plain},
		{"found out late", []string{"--", bad}, 127, bad},
		{"refused", []string{"--interface", "eth9", "--", "true"}, 125, "eth9"},
		{"a flag that there is not", []string{"--no-such-flag", "--", "true"}, 125, "no-such-flag"},
		{"a flag that is missing", []string{"--", "echo", "$(PODNIC_TAP_FD)"}, 125, "--tap-fd"},
		{"a flag too many", []string{"--domain", "-", "--", "true"}, 125, "--domain and a command"},
		{"a command that is called serve", []string{"--", "sh", "-c", `test -z "$GOMAXPROCS"`, "serve"}, 0, ""},
		{"what it is told", []string{"--tap", "guest7", "--", "sh", "-c",
			`test "$(PODNIC_TAP) $PODNIC_TAP $PODNIC_INTERFACE $PODNIC_QUEUES" = "guest7 guest7 eth0 1" &&
			 test '$(PODNIC_INTERFACES)' = "$PODNIC_INTERFACES" && ip link show $(PODNIC_TAP) && echo '$$(PODNIC_TAP)' is literal`}, 0,
			"$(PODNIC_TAP) is literal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.For(t)
			p := s.Start(append([]string{"run"}, test.args...)...)
			p.Exits(test.status)
			if !strings.Contains(p.Output(), test.says) {
				t.Errorf("not said: %q in\n%s", test.says, p.Output())
			}
			s.AsBefore()
			if files := podtest.Files(t, s.StateDir); len(files) > 0 {
				t.Errorf("left in the state directory: %v", files)
			}
		})
	}
}

// TestSignalsArePassedOn sends both, also to a command that makes much of the first.
func TestSignalsArePassedOn(t *testing.T) {
	s := newSite(t)
	p := s.Start("run", "--", "sh", "-c", `trap 'echo got INT' INT; trap 'echo got TERM; exit 9' TERM; echo waits; while :; do sleep 0.05; done`)
	p.Says("waits")
	p.Signal(syscall.SIGINT)
	p.Says("got INT")
	p.Signal(syscall.SIGTERM)
	p.Says("got TERM")
	p.Exits(9)
	s.AsBefore()
}

// TestGuestThatDoesNotShutDownIsSignalled has nobody at the other end of QMP, and somebody who does not act.
func TestGuestThatDoesNotShutDownIsSignalled(t *testing.T) {
	s := newSite(t)
	const script = `trap 'echo told; exit 0' TERM; echo waits; while :; do sleep 0.05; done`
	p := s.Start("run", "--qmp", filepath.Join(t.TempDir(), "nobody"), "--grace", "1h", "--", "sh", "-c", script)
	p.Says("waits")
	p.Signal(syscall.SIGTERM)
	p.Says("told") // at once: nobody can be asked
	p.Exits(0)

	// Nor for its link, where that is not to follow.
	s.carrier("down")
	const refused = "the guest's link does not follow the carrier"
	p = s.Start("run", "--qmp", filepath.Join(t.TempDir(), "nobody"), "--", "sleep", "1000")
	p.Says(refused)
	p.Signal(syscall.SIGTERM)
	p.Exits(128 + 15)
	p = s.Start("run", "--qmp", filepath.Join(t.TempDir(), "nobody"), "--follow-carrier=false", "--", "sleep", "0.5")
	p.Exits(0)
	if strings.Contains(p.Output(), refused) {
		t.Errorf("its link shall not follow: %s", p.Output())
	}
	s.carrier("up")

	// A guest without a kernel does not act on its power button.
	dir := t.TempDir()
	socket := filepath.Join(dir, "qmp")
	p = s.Start("run", "--qmp", socket, "--grace", "1s", "--", "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-nodefaults",
		"-display", "none", "-qmp", "unix:"+socket+",server=on,wait=off", "-netdev", "tap,id=n0,ifname=$(PODNIC_TAP),script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=n0,romfile=")
	p.Says("command started")
	held(t, s)
	s.carrier("down")
	p.Says("no network card with that MAC: give it mac=$(PODNIC_MAC)")
	s.carrier("up")
	p.Signal(syscall.SIGTERM)
	p.Says("has not shut down in time")
	p.Exits(0)
	s.AsBefore()
}

// held waits until a process holds the tap.
func held(t *testing.T, s *site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), podtest.Patience)
	defer cancel()
	// The kernel tells of a carrier, and ip(8) prints it.
	podtest.Must(t, s.Pod.Command(ctx, "sh", "-c", `until ip -o link show tap0 | grep -q LOWER_UP; do sleep 0.05; done`))
}

// TestGuestInTheBackgroundKeepsItsNetwork ends a command before its guest.
func TestGuestInTheBackgroundKeepsItsNetwork(t *testing.T) {
	s := newSite(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := s.Start("run", "--tap-fd", "--", "sh", "-c", `sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >`+pidFile)
	p.Says("is held by process")
	p.Exits(125)
	report := s.Status()
	if report.Phase != "wired" {
		t.Errorf("the phase is %s", report.Phase)
	}
	// A second command finds the guest.
	second := s.Start("run", "--", "true")
	second.Says("cannot be taken over")
	second.Exits(125)
	podtest.Must(t, s.Pod.Command(t.Context(), "sh", "-c", "kill $(cat "+pidFile+")"))
	podtest.Must(t, s.Pod.Command(t.Context(), "sh", "-c", "while kill -0 $(cat "+pidFile+") 2>/dev/null; do sleep 0.05; done"))
	s.Must("restore")
	s.AsBefore()
}

// TestProcessOneReapsAndPassesOn is a container's main process.
func TestProcessOneReapsAndPassesOn(t *testing.T) {
	s := newSite(t)
	s.Prepare = func(ctx context.Context, args []string) *exec.Cmd {
		return s.Pod.Command(ctx, "unshare", append([]string{"--pid", "--fork", "--mount-proc", "--kill-child", s.Podnic, "run", "--state-dir", s.StateDir}, args[1:]...)...)
	}
	// An orphan's parent is process 1, and that is who has to reap it.
	file := filepath.Join(t.TempDir(), "pid")
	p := s.Start("run", "--", "sh", "-c", `(sleep 0.1 & echo $! >`+file+`); while test -e /proc/$(cat `+file+`); do sleep 0.05; done; exit 6`)
	p.Exits(6)
	s.Prepare = nil
	s.AsBefore()
}

// TestTapByDescriptorNeedsNoPrivilege has nobody, who may not open the device, write a frame.
func TestTapByDescriptorNeedsNoPrivilege(t *testing.T) {
	s := newSite(t)
	const setpriv = "setpriv"
	// Ten bytes of virtio header, and a frame.
	p := s.Start("run", "--tap-fd", "--", setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "sh", "-c",
		`grep -q 'CapEff:.*0000000000000000$' /proc/self/status && head -c 100 /dev/zero >&$(PODNIC_TAP_FD) && ip -o -s link show $(PODNIC_TAP)`)
	p.Says(`RX:`)
	p.Exits(0)
	if fields := strings.Fields(p.Output()[strings.Index(p.Output(), "RX:"):]); !slices.Contains(fields[:14], "90") {
		t.Errorf("the tap has not received the frame: %v", fields[:14])
	}
	s.AsBefore()
}

// TestCommandHasAllInterfacesOfThePod gives it two, and an emulator each of them by its descriptor.
func TestCommandHasAllInterfacesOfThePod(t *testing.T) {
	s := newSite(t)
	s.In(s.Pod.Namespace, `ip link add net1 type veth peer name peer-net1 netns `+s.Node.Name+`
ip link set net1 up
ip address add 198.51.100.7/24 dev net1`)
	s.In(s.Node.Namespace, "ip link set peer-net1 up")
	s.Remember()
	socket := filepath.Join(t.TempDir(), "qmp")
	args := []string{"run", "--interface", "all", "--tap-fd", "--qmp", socket, "--grace", "1s", "--", "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-nodefaults",
		"-display", "none", "-qmp", "unix:" + socket + ",server=on,wait=off"}
	for _, card := range []struct{ fd, mac string }{{"PODNIC_TAP_FD", "PODNIC_MAC"}, {"PODNIC_TAP_FD_1", "PODNIC_MAC_1"}} {
		args = append(args, "-netdev", "tap,id="+card.fd+",fd=$("+card.fd+")",
			"-device", "virtio-net-pci,romfile=,netdev="+card.fd+",mac=$("+card.mac+")")
	}
	p := s.Start(args...)
	p.Says("command started")
	report := s.Status("--wait", "wired")
	if len(report.Interfaces) != 2 || report.Interfaces[0].Tap != "tap0" || report.Interfaces[1].Tap != "tap1" {
		t.Errorf("the guest has %+v", report.Interfaces)
	}
	// Both taps are the emulator's, and no other process'.
	for _, tap := range []string{"tap0", "tap1"} {
		podtest.Must(t, s.Pod.Command(t.Context(), "sh", "-c", "ip -o link show "+tap+" | grep -q LOWER_UP"))
	}
	podtest.Must(t, exec.Command("sh", "-c", "until test -S "+socket+"; do sleep 0.05; done"))
	// Each link of the guest's follows its own.
	s.In(s.Node.Namespace, "ip link set peer-net1 down")
	p.Says("the guest's link is down")
	podtest.Until(t, "without the carrier of net1, podnic has taken down its link alone", func() bool {
		all := s.Status().Interfaces
		return !all[0].GuestLink.Lowered && all[1].GuestLink.Lowered
	})
	s.In(s.Node.Namespace, "ip link set peer-net1 up")
	p.Says("the guest's link is up")
	p.Signal(syscall.SIGTERM)
	p.Says("has not shut down in time") // so it answered, and its signal handlers are in place
	p.Exits(0)
	s.AsBefore()

	// One that was wired before stays so where the command does not start, and the other is taken back.
	s.Must("prepare", "--interface", "eth0")
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p = s.Start("run", "--interface", "eth0", "--interface", "net1", "--", bad)
	p.Exits(127)
	if report := s.Status(); len(report.Interfaces) != 1 || report.Interfaces[0].Name != "eth0" || report.Phase != "wired" {
		t.Errorf("wired after a command that did not start: %s, %+v", report.Phase, report.Interfaces)
	}
	s.Must("restore")
	s.AsBefore()

	// What cannot be wired beside the other is refused for both.
	p = s.Start("run", "--interface", "eth0", "--interface", "eth9", "--", "true")
	p.Says("eth9")
	p.Exits(125)
	s.AsBefore()
}
