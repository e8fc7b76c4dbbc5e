package kubevirt

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/podnic/podnic/test/pages"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// blue is the pod's interface for a network of that name: pod and the beginning of `printf blue | sha256sum`.
const blue = "pod16477688c0e"

// addBlue gives the pod a second interface, as a secondary network does.
func (s *site) addBlue() {
	s.T.Helper()
	s.In(s.Pod.Namespace, fmt.Sprintf(`
ip link add %[1]s address 0a:58:0a:fa:00:02 type veth peer name veth-blue netns %[2]s
ip address add 10.250.0.2/24 dev %[1]s
ip link set %[1]s up`, blue, s.Node.Name))
	s.In(s.Node.Namespace, "ip link set veth-blue up")
}

// domainXML is a domain with elements that podnic has never heard of, before, in and after its interfaces.
func domainXML(cards ...string) string {
	return `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>default_vm-0</name>
  <metadata><kubevirt xmlns="http://kubevirt.io"><uid>1</uid></kubevirt></metadata>
  <devices>
    <novelty of="tomorrow"><interface type="none"/></novelty>
    ` + strings.Join(cards, "\n    ") + `
  </devices>
  <qemu:commandline><qemu:arg value="-x"></qemu:arg></qemu:commandline>
</domain>`
}

const (
	otherMAC = "02:00:00:00:00:01"
	blueMAC  = "0a:58:0a:fa:00:02"
)

// TestSidecarsServeTheirOwn runs two sidecars in a pod whose machine has three interfaces, of which each has one.
func TestSidecarsServeTheirOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.PTP)
	s.addBlue()
	s.attach(pod.Interface)
	s.attach(blue)
	mac := s.MAC.String()
	first, second := s.sidecar("hook-sidecar-0", plugin), s.sidecar("hook-sidecar-1", "another")
	launcher := s.launcher()
	launcher.collect(2)
	s.wire(pod.Interface)
	s.wire(blue, "multi_queue")

	third := strings.Replace(card("green", "tap1", otherMAC), "<rom", "<unheard of='it'/><rom", 1)
	// KubeVirt gives tap and domain the same number of queues.
	queues := func(card string) string {
		return strings.Replace(card, "<rom", `<driver name="vhost" queues="4"></driver><rom`, 1)
	}
	xml := domainXML(queues(card("blue", "tap16477688c0e", otherMAC)), third, card("default", "tap0", otherMAC))
	want := domainXML(queues(card("blue", "tap16477688c0e", blueMAC)), third, card("default", "tap0", mac))
	told := map[string]any{"dhcpOptions": map[string]any{"bootFileName": "pxe/boot", "tftpServerName": "tftp.example",
		"ntpServers": []string{"10.0.0.1", "10.0.0.2"}, "privateOptions": []any{map[string]any{"option": 240, "value": "site"}}}}
	machine := vmi(nic{name: "blue", binding: "another", secondary: true, more: told}, nic{name: "green", binding: "masquerade", secondary: true},
		nic{name: "default", binding: plugin})
	for range 3 {
		if got := launcher.define(xml, machine); canonical(t, got) != canonical(t, want) {
			t.Errorf("the domain is defined as\n%s\nwant\n%s", got, want)
		}
	}
	for _, version := range []string{"v1alpha1", "v1alpha2"} {
		got, err := launcher.sidecars[0].define(t.Context(), version, want, machine)
		if err != nil || canonical(t, got) != canonical(t, want) {
			t.Errorf("%s: %v: the domain is defined as\n%s", version, err, got)
		}
	}
	// The guest tells its servers apart by their addresses.
	for iface, test := range map[string]struct {
		of                             *container
		bridge, tap, mac, addr, server string
	}{
		pod.Interface: {first, "k6t-eth0", "tap0", mac, s.Pod.Address.Addr().String() + "/32", "169.254.75.10"},
		blue:          {second, "k6t-16477688c0e", "tap16477688c0e", blueMAC, "10.250.0.2/24", "169.254.75.11"},
	} {
		r := test.of.serving(iface)
		i := r.Interfaces[0]
		if i.Name != iface || i.Bridge != test.bridge || i.Tap != test.tap || i.MAC != test.mac || i.Offer.Address.String() != test.addr ||
			i.Offer.ServerIdentifier.String() != test.server {
			t.Errorf("the status of %s: %+v", iface, r)
		}
		asTold(t, r, iface == blue)
	}
	first.asThePageSays(t)
	for _, path := range []string{filepath.Join(first.part, "podnic", blue), filepath.Join(second.part, "podnic", pod.Interface)} {
		if _, err := os.Stat(filepath.Join(path, "state.json")); err == nil {
			t.Errorf("a sidecar serves what is the other's: %s", path)
		}
	}

	first.Signal(syscall.SIGTERM)
	first.exits(0)
	// Now both interfaces are the other's.
	launcher.sidecars = launcher.sidecars[:0]
	launcher.collect(1)
	both := strings.ReplaceAll(machine, plugin, "another")
	if got := launcher.define(xml, both); canonical(t, got) != canonical(t, want) {
		t.Errorf("by one sidecar, the domain is defined as\n%s\nwant\n%s", got, want)
	}
	second.serving(pod.Interface)
	second.serving(blue)

	second.Signal(syscall.SIGKILL)
	<-second.Done
	second = s.sidecar("hook-sidecar-1", "another")
	asTold(t, second.serving(blue), true) // it is not asked again
	asTold(t, second.serving(pod.Interface), false)
	launcher.shutdown()
	second.exits(0)
}

// asThePageSays runs what docs/kubevirt.md has for a sidecar's container.
func (c *container) asThePageSays(t *testing.T) {
	t.Helper()
	page, err := pages.Read("../../docs/kubevirt.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := page.RunBy("TestSidecarsServeTheirOwn")
	if len(blocks) != 1 || len(blocks[0].Commands) != 1 {
		t.Fatalf("the page has these commands for a sidecar: %+v", blocks)
	}
	words := strings.Fields(strings.ReplaceAll(blocks[0].Commands[0].Text, "/var/run/kubevirt-hooks", "/mnt/hooks"))
	if out := podtest.Must(t, c.command(t.Context(), words[1:]...)); !strings.Contains(out, pod.Interface+": serving") {
		t.Errorf("%s: %s", words, out)
	}
}

// asTold checks that a guest is told what its interface in the VMI says, and no other guest.
func asTold(t *testing.T, r podtest.Report, told bool) {
	t.Helper()
	o := r.Interfaces[0].Offer
	all := o.BootFile == "pxe/boot" && o.TFTPServer == "tftp.example" && fmt.Sprint(o.NTP) == "[10.0.0.1 10.0.0.2]" && len(o.Options) == 1 && strings.HasPrefix(o.Options[0], "240=")
	none := o.BootFile+o.TFTPServer == "" && len(o.NTP)+len(o.Options) == 0
	if told && !all || !told && !none {
		t.Errorf("%s is told %+v", r.Interfaces[0].Name, o)
	}
	if o.DomainName != "sub.default.svc.cluster.local" {
		t.Errorf("%s is told the domain %q", r.Interfaces[0].Name, o.DomainName)
	}
}

// TestErrorsCarryTheReason asks for what cannot be done, hangs up in the middle, and asks again for what can.
func TestErrorsCarryTheReason(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.PTP)
	sidecar := s.sidecar("hook-sidecar-0", plugin)
	launcher := s.launcher()
	launcher.collect(1)
	s.wire(pod.Interface)
	hook := launcher.sidecars[0]
	ours := vmi(nic{name: "default", binding: plugin})
	xml := domainXML(card("default", "tap0", otherMAC))
	asked := func(name string, test struct{ xml, vmi, words string }) {
		t.Helper()
		_, err := hook.define(t.Context(), "v1alpha3", test.xml, test.vmi)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a line that says %q", name, err, test.words)
		}
	}
	migrating := `"status":{"migrationState":{"targetPod":"virt-launcher-vm-0-x","sourceNode":"a","targetNode":"b"},`
	asked("target of a migration", struct{ xml, vmi, words string }{
		xml, strings.Replace(ours, `"status":{`, migrating, 1), "cannot be migrated to the pod virt-launcher-vm-0-x",
	})
	for name, test := range map[string]struct{ xml, vmi, words string }{
		"VMI that is not JSON":   {xml, "kind: VirtualMachineInstance", "not the JSON of one"},
		"domain that is not XML": {"<domain><name>a</name>", ours, "domain XML: line 1"},
		"no interface of ours":   {xml, vmi(nic{name: "default", binding: "passt"}), "default has passt"},
		"interface that is not in the pod": {
			xml, vmi(nic{name: "blue", binding: plugin, secondary: true}), "the interface blue is not in the pod as " + blue + " or net1",
		},
		// Nobody ran the CNI plugin of the binding.
		"namespace that lacks what it takes": {xml, ours, "net.ipv4.ip_unprivileged_port_start must be at most 67"},
	} {
		asked(name, test)
	}

	s.attach(pod.Interface)
	s.In(s.Pod.Namespace, "ip address delete 169.254.75.10/32 dev lo")
	asked("no address", struct{ xml, vmi, words string }{xml, ours, "no link of the pod has the address 169.254.75.10"})
	s.In(s.Pod.Namespace, "ip address add 169.254.75.10/32 dev lo scope host")
	for option, words := range map[string]string{
		`{"ntpServers":["ntp.example"]}`: "ntpServers takes IPv4 addresses", `{"privateOptions":[{"option":12,"value":"a"}]}`: "from 224 to 254, not 12",
	} {
		asked(option, struct{ xml, vmi, words string }{xml, strings.Replace(ours, `"name":"default","ports"`, `"dhcpOptions":`+option+`,"name":"default","ports"`, 1), words})
	}
	hangUp(t, hook.socket)
	canceled, cancel := context.WithTimeout(t.Context(), time.Microsecond)
	defer cancel()
	if _, err := hook.define(canceled, "v1alpha3", xml, ours); err == nil {
		t.Error("a call that was cancelled is answered")
	}
	got, err := hook.define(t.Context(), "v1alpha3", xml, ours)
	if err != nil || strings.Contains(got, otherMAC) {
		t.Errorf("afterwards: %v:\n%s", err, got)
	}
	sidecar.serving(pod.Interface)
	// The machine that was started here is migrated away.
	if _, err := hook.define(t.Context(), "v1alpha3", xml, strings.Replace(ours, `"status":{`, migrating, 1)); err != nil {
		t.Errorf("asked while it is migrated to another pod: %v", err)
	}
}

// TestEarlierKubeVirts tell a sidecar less, and look for its socket where they look at everything.
func TestEarlierKubeVirts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env   []string
		state string // where the sidecar keeps what it knows
		wants string // all that may lie in its part of the hook directory
	}{
		"before 1.6": {nil, "/dev/shm/podnic-podnic", "podnic-podnic.sock"},
		"before 1.9": {[]string{"CONTAINER_NAME=hook-sidecar-0"}, "/mnt/hooks/podnic", "podnic podnic-hook-sidecar-0.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, pod.PTP)
			s.attach(pod.Interface)
			start := func() *container { return s.container("hook-sidecar-0", test.env) }
			sidecar, launcher := start(), s.launcher()
			launcher.collect(1)
			s.wire(pod.Interface)
			machine := vmi(nic{name: "default", binding: "a-name-of-the-users"}, nic{name: "green", binding: "masquerade", secondary: true})
			defined := launcher.define(domainXML(card("default", "tap0", otherMAC)), machine)
			if strings.Contains(defined, otherMAC) {
				t.Errorf("the domain is defined as\n%s", defined)
			}
			// It may not see the filter, and does not say that there is none.
			out, err := sidecar.command(t.Context(), "status", "--state-dir", test.state, "--interface", "eth0", "--wait", "wired").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "filter: not looked at") {
				t.Errorf("status: %v: %s", err, out)
			}
			sidecar.keeps(filepath.Join(test.state, "eth0", "state.json"))
			sidecar.Signal(syscall.SIGKILL)
			<-sidecar.Done
			sidecar = start()
			sidecar.Says("serving again what an earlier sidecar")
			sidecar.Says(`"msg":"serving"`)
			entries, err := os.ReadDir(sidecar.part)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if got := strings.Join(names, " "); err != nil || got != test.wants {
				t.Errorf("in the hook directory are %q, want %q: %v", got, test.wants, err)
			}
		})
	}
}

// hangUp sends the beginnings of a call and closes the connection.
func hangUp(t *testing.T, socket string) {
	t.Helper()
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings, headers := "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x01\x00\x01\x04\x00\x00\x00\x01half of"
	for _, words := range []string{"", preface[:9], preface, preface + settings, preface + settings + headers} {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_, err = c.Write([]byte(words))
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// TestDomainDefinedBeforeThePodIsWired asks early: the answer does not wait for the wiring, the server does.
func TestDomainDefinedBeforeThePodIsWired(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.PTP)
	s.attach(pod.Interface)
	sidecar := s.sidecar("hook-sidecar-0", plugin)
	launcher := s.launcher()
	launcher.collect(1)
	// Without a domainAttachmentType there is no card in the domain.
	machine := vmi(nic{name: "default", binding: plugin, more: map[string]any{"pciAddress": "0000:00:1f.0", "acpiIndex": 3, "bootOrder": 1, "state": "down"}})
	early := launcher.define(domainXML(), machine)
	for _, words := range []string{`<target dev="tap0" managed="no"/>`, `<alias name="ua-default"/>`, `<model type="virtio"/>`, `<link state="down"/>`,
		`<boot order="1"/>`, `<acpi index="3"/>`, `<address type="pci" domain="0x0000" bus="0x00" slot="0x1f" function="0x0"/>`} {
		if !strings.Contains(early, words) {
			t.Errorf("%s is not in the domain:\n%s", words, early)
		}
	}
	s.wire(pod.Interface)
	sidecar.Says(`"msg":"serving"`)
	if again := launcher.define(early, machine); again != early {
		t.Errorf("once it is wired, the domain is\n%s\nand was\n%s", again, early)
	}

	// The container is started again, and what it had written is lost.
	sidecar.Signal(syscall.SIGKILL)
	<-sidecar.Done
	if err := os.RemoveAll(filepath.Join(sidecar.part, "podnic")); err != nil {
		t.Fatal(err)
	}
	sidecar = s.sidecar("hook-sidecar-0", plugin)
	sidecar.Says("waiting for the launcher")
	if again := launcher.define(early, machine); again != early {
		t.Errorf("without a record, the domain is\n%s\nand was\n%s", again, early)
	}
	r := sidecar.serving(pod.Interface)
	i := r.Interfaces[0]
	if i.Offer.Address != s.Pod.Address || !strings.Contains(strings.Join(i.Warnings, "\n"), "lost") {
		t.Errorf("without a record: %+v", r)
	}
}
