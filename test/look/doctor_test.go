package look

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	store "github.com/podnic/podnic/network"
	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// finding is what doctor says of one check.
type finding struct{ Check, Status, Reason, Remedy string }

// doctor runs the program and checks that its exit status is what its findings say.
func (s *site) doctor(cmd *exec.Cmd) map[string]finding {
	s.T.Helper()
	out, errs, status := podtest.Run(s.T, cmd)
	var report struct {
		OK       bool
		Findings []finding
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		s.T.Fatalf("%v: status %d: %s%s", err, status, out, errs)
	}
	failed := slices.ContainsFunc(report.Findings, func(f finding) bool { return f.Status == "fail" })
	if report.OK == failed || (status == 1) != failed || status > 1 {
		s.T.Errorf("ok is %v, and the exit status %d: %+v", report.OK, status, report.Findings)
	}
	found := make(map[string]finding)
	for _, f := range report.Findings {
		if f.Reason == "" || (f.Remedy == "") != (f.Status == "ok") {
			s.T.Errorf("without a reason or a remedy, or with one too many: %+v", f)
		}
		found[f.Check] = f
	}
	return found
}

// finds runs one check in the pod and compares what it says.
func (s *site) finds(check, status, says string, args ...string) {
	s.T.Helper()
	args = append([]string{"doctor", "-o", "json", "--only", check, "--state-dir", s.StateDir}, args...)
	s.found(s.Pod.Command(s.T.Context(), s.Podnic, args...), check, status, says)
}

func (s *site) found(cmd *exec.Cmd, check, status, says string) {
	s.T.Helper()
	if f := s.doctor(cmd)[check]; f.Status != status || !strings.Contains(f.Reason+" → "+f.Remedy, says) {
		s.T.Errorf("%s: want %s, %q, and got %+v", check, status, says, f)
	}
}

// after runs one check by a shell in the pod, after commands that see the pod's files and not the machine's.
func (s *site) after(commands, check, status, says string) {
	s.T.Helper()
	script := "mount --make-rprivate /\n" + commands + "\nexec \"$0\" doctor -o json --only " + check + " --state-dir \"$1\""
	s.found(s.Pod.Command(s.T.Context(), "sh", "-e", "-c", script, s.Podnic, s.StateDir), check, status, says)
}

// as runs doctor as a container runtime does: as a user, with capabilities as in "+net_admin", and nothing else.
func (s *site) as(uid, capabilities string, args ...string) *exec.Cmd {
	s.T.Helper()
	contained, err := filepath.Abs("../shapes/testdata/contained")
	if err != nil {
		s.T.Fatal(err)
	}
	if err := os.MkdirAll(s.StateDir, 0o755); err != nil {
		s.T.Fatal(err)
	}
	return s.Pod.Command(s.T.Context(), contained, append([]string{uid, capabilities, s.Podnic, s.StateDir, "doctor", "-o", "json"}, args...)...)
}

// TestDoctorOfAnOriginalPod breaks what a pod that nothing is wired in may lack, one after the other, and mends it.
func TestDoctorOfAnOriginalPod(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	in := func(script string) { s.T.Helper(); s.In(s.Pod.Namespace, script) }

	s.finds("kernel", "ok", "Linux")
	s.after("mount -t tmpfs tmpfs /proc/sys/kernel/random", "kernel", "fail", "boot_id")

	s.found(s.as("0", "", "--only", "capabilities"), "capabilities", "fail", "CAP_NET_ADMIN and CAP_NET_RAW")
	s.found(s.as("0", "+net_admin", "--only", "capabilities"), "capabilities", "fail", "lacks CAP_NET_RAW")
	s.found(s.as("65534", "+net_admin,+net_raw", "--only", "capabilities"), "capabilities", "ok", "")

	s.after("mount -t tmpfs tmpfs /dev/net", "tun", "fail", "mount it into the container")
	s.after("mount -t tmpfs tmpfs /dev/net; : >/dev/net/tun", "tun", "fail", "is not the device")
	s.after("mount -t tmpfs tmpfs /dev/net; mknod /dev/net/tun c 10 200", "tun", "ok", "")

	for _, check := range []string{"link-kinds", "nftables"} {
		s.found(s.as("0", "", "--only", check), check, "unknown", "CAP_NET_ADMIN")
		s.found(s.as("0", "+net_admin", "--only", check), check, "ok", "")
	}

	s.after("mkdir -p \"$1\"; mount -t tmpfs -o ro tmpfs \"$1\"", "state-dir", "fail", "read-only")
	s.after("mount -t tmpfs tmpfs \"$1\"", "state-dir", "ok", "can be written")

	s.after("mkdir -p \"$1\"; mount -t tmpfs tmpfs \"$1\"; mkdir \"$1/eth0\"; echo '{' >\"$1/eth0/record.json\"", "wiring", "warn", "record.json is damaged")
	s.finds("wiring", "ok", "nothing is wired")

	s.finds("pod", "ok", "eth0 has 10.244.1.5/24: the guest gets 10.244.1.5/24 by way of 10.244.1.1, MTU 1500")
	in("ip link add tap0 type bridge")
	s.finds("pod", "fail", "choose another name with --tap")
	in("ip link delete tap0\nip address add 10.9.9.9/24 dev eth0")
	s.finds("pod", "warn", "10.9.9.9/24 is a further address")
	in("ip address delete 10.9.9.9/24 dev eth0")
	s.finds("pod", "ok", "")

	in("ip route add 203.0.113.0/24 via 10.244.1.1 mtu 1300")
	s.finds("mtu", "warn", "--mtu 1300")
	in("ip route delete 203.0.113.0/24")
	s.finds("mtu", "ok", "1500")

	resolver := func(text string) {
		t.Helper()
		if _, _, status := podtest.Run(s.T, s.Pod.Command(t.Context(), "sh", "-c", "echo "+text+" >/etc/resolv.conf")); status != 0 {
			t.Fatal("resolv.conf was not written")
		}
	}
	resolver("nameserver 127.0.0.53")
	s.finds("resolver", "fail", "127.0.0.53")
	resolver("nameserver 10.96.0.10")
	s.finds("resolver", "ok", "10.96.0.10")
	in("ip route delete default")
	s.finds("resolver", "warn", "no route of the guest leads to the name server 10.96.0.10", "--interface", "eth0")
	in("ip route add default via 10.244.1.1")

	in("nft add table ip mesh; nft 'add chain ip mesh out { type nat hook output priority -100 ; }'; nft add rule ip mesh out tcp dport 80 redirect to :15001")
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		s.finds("iptables", "ok", "does not hand")
	} else {
		set := func(value string) {
			in("echo " + value + " >/proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 >/proc/sys/net/bridge/bridge-nf-call-ip6tables")
		}
		set("1")
		s.finds("iptables", "warn", "ip mesh out (rules: 1)")
		s.found(s.as("0", "", "--only", "iptables"), "iptables", "unknown", "CAP_NET_ADMIN")
		set("0")
		s.finds("iptables", "ok", "does not hand")
		set("1")
		in("nft delete table ip mesh")
		s.finds("iptables", "ok", "no rules")
	}

	in("ip link add virbr0 type bridge")
	s.finds("libvirt-network", "warn", "virsh net-destroy default")
	in("ip link delete virbr0")
	s.finds("libvirt-network", "ok", "")

	for check, setting := range map[string][3]string{
		"ports":    {"/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024", "0"},
		"martians": {"/proc/sys/net/ipv4/conf/all/accept_local", "0", "1"},
	} {
		in("echo " + setting[1] + " >" + setting[0])
		s.finds(check, "ok", "not needed with a packet socket")
		s.finds(check, "fail", "CNI plugin", "--socket", "udp")
		in("echo " + setting[2] + " >" + setting[0])
		s.finds(check, "ok", setting[2], "--socket", "udp")
	}
}

// TestDoctorSaysWhatBecomesOfIPv6 gives a pod an address and takes IPv6 away in different ways.
func TestDoctorSaysWhatBecomesOfIPv6(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	in := func(script string) { s.T.Helper(); s.In(s.Pod.Namespace, script) }
	s.finds("ipv6", "ok", "IPv6 is not served, and passes")
	in("ip address add fd00:10:244:1::5/64 dev eth0 nodad; ip -6 route add default via fd00:10:244:1::1")
	s.finds("ipv6", "ok", "IPv6 is served")
	in("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	s.finds("ipv6", "warn", "links that are made here have no IPv6 (net.ipv6.conf.default.disable_ipv6 is 1)")
	in("echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	s.finds("ipv6", "ok", "IPv6 is not served, and none of its frames crosses", "--ipv6", "off")
	in("ip -6 neigh add fd00:10:244:1::1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent")
	s.Must("prepare")
	s.finds("ipv6", "warn", "the router fd00:10:244:1::1 has no link-local address")
	s.Must("restore")
	in("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
	s.finds("ipv6", "ok", "eth0 has no IPv6: net.ipv6.conf.eth0.disable_ipv6 is 1")
	in("ip link set eth0 mtu 1200")
	s.finds("ipv6", "ok", "eth0 has no IPv6: its MTU is 1200, and IPv6 requires at least 1280")
}

// TestDoctorOfAWiredPod does the same to a pod whose interface a guest has.
func TestDoctorOfAWiredPod(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.serve()
	in := func(script string) { s.T.Helper(); s.In(s.Pod.Namespace, script) }
	s.finds("wiring", "ok", "as it should be (ready)")
	// As from a node, which has another /run: a lease that is not seen is not one that there is not.
	elsewhere, _, _ := podtest.Run(t, s.Pod.Command(t.Context(), s.Podnic, "status", "--state-dir", t.TempDir()))
	if !strings.Contains(elsewhere, "serving, and the lease cannot be seen from here") || !strings.Contains(elsewhere, "lease not seen from here") ||
		!strings.Contains(elsewhere, "with its --state-dir") {
		t.Errorf("status elsewhere:\n%s", elsewhere)
	}
	in("ip link set tap0 down")
	s.finds("wiring", "fail", "tap0 is down → run `podnic prepare` to mend it")
	s.Must("prepare")
	s.finds("wiring", "ok", "")

	in("ip link set eth0-br mtu 1400")
	s.finds("mtu", "fail", "has the MTU 1400, and the guest is told 1500")
	s.Must("prepare")
	s.finds("mtu", "ok", "1500")

	s.finds("mac", "ok", "0a:58:0a:f4:01:05, which is made from the address, as OVN-Kubernetes does")
	s.In(s.guest, "ip link set eth0 address 0a:58:0a:f4:01:99")
	podtest.Until(t, "the server has heard and noted the other MAC", func() bool {
		s.In(s.guest, "busybox udhcpc -f -q -n -t 1 -T 1 -i eth0 -s /bin/true 2>/dev/null || true")
		return strings.Contains(s.Must("status"), "0a:58:0a:f4:01:99")
	})
	s.finds("mac", "fail", "0a:58:0a:f4:01:99")
	s.killServer()
	s.finds("wiring", "fail", "nobody serves eth0 → run `podnic run` or `podnic serve`")
	s.server = s.Start("serve")
	s.In(s.guest, "ip link set eth0 address 0a:58:0a:f4:01:05\nbusybox udhcpc -f -q -n -t 40 -T 1 -i eth0 -s /bin/true 2>/dev/null")
	s.Must("status", "--wait", "ready", "--timeout", patience)
	s.finds("mac", "ok", "")
	s.finds("wiring", "ok", "")

	s.finds("tun", "ok", "the tap is there")
	s.found(s.as("0", "+net_raw", "--only", "capabilities"), "capabilities", "warn", "it can serve")
}

// TestWhoHasWhichPortIsTold has a pod that shares its address, and listeners in it, the last one where nobody reaches it. Who may
// see neither the record nor the filter is told too, but for the process.
func TestWhoHasWhichPortIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.In(s.Pod.Namespace, "sysctl -qw 'net.ipv4.ip_local_port_range=28232 32767'")
	s.Must("prepare", "--binding", "shared", "--pod-ports", "8080/tcp", "--guest-ports", "80/tcp")
	const ports = "the pod keeps 8080/tcp and connects from 28232-32767; all others are the guest's, and 127.0.0.1 is the guest on 80/tcp"
	s.finds("pod", "ok", ports)
	podtest.Listen(t, s.Pod.Namespace, netip.AddrPortFrom(netip.IPv4Unspecified(), 8080))
	s.finds("wiring", "ok", "as it should be")
	podtest.Listen(t, s.Pod.Namespace, netip.AddrPortFrom(netip.IPv4Unspecified(), 8090))
	const unlisted = "of user 0 listens on 8090/tcp, which is not among --pod-ports"
	s.finds("wiring", "warn", fmt.Sprintf("process %d (", os.Getpid()))
	s.finds("wiring", "warn", unlisted)
	stranger := s.as("65533", "", "--only", "pod,wiring")
	found := s.doctor(stranger)
	if f := found["pod"]; !strings.Contains(f.Reason, ports) {
		t.Errorf("a stranger is told of the ports: %+v", f)
	}
	if f := found["wiring"]; f.Status != "warn" || !strings.Contains(f.Reason, "a process "+unlisted) {
		t.Errorf("a stranger is told of the listener: %+v", f)
	}
	drawn := strings.Join(strings.Fields(strings.ReplaceAll(s.Must("status"), "│", "")), " ") // lines are broken
	for _, part := range []string{ports, unlisted} {
		if !strings.Contains(drawn, part) {
			t.Errorf("status does not say %q:\n%s", part, drawn)
		}
	}
	s.Must("restore")
}

// TestDoctorChangesNothing runs all checks with all privileges, with some, and with none, and as somebody who may read
// nothing of podnic's.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	before := podtest.State(t, s.Pod.Namespace)
	for name, cmd := range map[string]*exec.Cmd{
		"root":          s.Pod.Command(t.Context(), s.Podnic, "doctor", "-o", "json", "--state-dir", s.StateDir, "--ignore", "kvm", "--connect-timeout", "100ms"),
		"CAP_NET_ADMIN": s.as("0", "+net_admin", "--connect-timeout", "100ms"),
		"no capability": s.as("0", "", "--connect-timeout", "100ms"),
		"a stranger":    s.as("65533", "", "--connect-timeout", "100ms"),
	} {
		found := s.doctor(cmd)
		if len(found) != 19 {
			t.Errorf("%s: %d checks: %+v", name, len(found), found)
		}
		if name == "root" && found["kvm"].Status == "fail" {
			t.Error("a check in --ignore fails")
		}
		if f := found["pod"]; f.Status != "ok" {
			t.Errorf("%s: %+v", name, f)
		}
		if diff := before.Diff(podtest.State(t, s.Pod.Namespace)); diff != "" {
			t.Errorf("%s: the namespace is not as before:\n%s", name, diff)
		}
	}
	left, err := os.ReadDir(s.StateDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
}

// TestDoctorAndLibvirt looks for a daemon that is there, for one that has gone, and without the helper.
func TestDoctorAndLibvirt(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	daemon := podtest.Libvirtd(t, s.Pod)
	s.finds("libvirt", "ok", "QEMU", "--connect", daemon.URI)
	s.otherCard(daemon)
	if err := daemon.Close(); err != nil {
		t.Fatal(err)
	}
	s.finds("libvirt", "fail", "start libvirtd or virtqemud", "--connect", daemon.URI, "--connect-timeout", "200ms")

	alone := filepath.Join(t.TempDir(), "podnic")
	if out, err := exec.Command("cp", s.Podnic, alone).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	args := []string{"doctor", "-o", "json", "--only", "libvirt", "--state-dir", s.StateDir}
	s.found(s.Pod.Command(t.Context(), "env", append([]string{"PATH=/nowhere", alone}, args...)...), "libvirt", "fail", "podnic-libvirt")
}

// otherCard gives the guest a card with another MAC than the pod's, as somebody does who writes the domain by hand, and then
// the pod's.
func (s *site) otherCard(daemon *libvirtd.Daemon) {
	s.T.Helper()
	s.Must("prepare")
	req := store.Request{Namespace: s.Pod.Path, StateDir: s.StateDir, LockTimeout: 10 * time.Second}
	if err := store.SetDomain(s.T.Context(), req, "eth0", &store.DomainRef{Name: "vm"}); err != nil {
		s.T.Fatal(err)
	}
	dir := s.T.TempDir()
	xml, err := guest.Domain{Name: "vm", Image: podtest.Guest(s.T), KVM: daemon.KVM, Console: filepath.Join(dir, "console")}.XML()
	if err != nil {
		s.T.Fatal(err)
	}
	for _, test := range []struct{ mac, status string }{{"52:54:00:00:00:01", "fail"}, {"0a:58:0a:f4:01:05", "ok"}} {
		card := "<interface type='ethernet'><mac address='" + test.mac + "'/><target dev='tap0' managed='no'/></interface></devices>"
		file := filepath.Join(dir, "domain.xml")
		if err := os.WriteFile(file, []byte(strings.Replace(xml, "</devices>", card, 1)), 0o600); err != nil {
			s.T.Fatal(err)
		}
		if _, err := daemon.Virsh(s.T.Context(), "create", "--paused", file); err != nil {
			s.T.Fatal(err)
		}
		s.finds("mac", test.status, test.mac, "--connect", daemon.URI)
		if _, err := daemon.Virsh(s.T.Context(), "destroy", "vm"); err != nil {
			s.T.Fatal(err)
		}
	}
}

// TestDoctorKnowsWhetherKVMRunsGuests compares it with a guest that is booted.
func TestDoctorKnowsWhetherKVMRunsGuests(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	works, err := guest.KVM(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := "ok"
	switch _, err := os.Stat("/dev/kvm"); {
	case err != nil:
		want = "warn"
	case !works:
		want = "fail"
	}
	s.finds("kvm", want, "/dev/kvm")
	s.after("mount -t tmpfs tmpfs /dev", "kvm", "warn", "<domain type='qemu'>")
}

// TestDoctorOfAMachine looks at a namespace that is taken for the machine's: the pod's checks are not made.
func TestDoctorOfAMachine(t *testing.T) {
	t.Parallel()
	podtest.NeedRoot(t)
	s := &site{Site: &podtest.Site{T: t, Podnic: podtest.Program(t), StateDir: filepath.Join(t.TempDir(), "state")}}
	found := s.doctor(exec.CommandContext(t.Context(), s.Podnic, "doctor", "-o", "json", "--state-dir", s.StateDir, "--only", "kernel,pod,wiring,link-kinds"))
	_, err := os.Stat("/proc/sys/net/core/dev_weight") // which the machine's namespace alone has; the tests may run in a container
	for check, want := range map[string]string{"kernel": "ok", "link-kinds": "ok", "pod": "unknown", "wiring": "unknown"} {
		if found[check].Status != want && (err == nil || want == "ok") {
			t.Errorf("%+v", found[check])
		}
	}
}
