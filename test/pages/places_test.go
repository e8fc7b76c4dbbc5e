package pages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// inPod is a pod whose programs see the machine's files.
func inPod(t *testing.T, network pod.Network) (*podtest.Site, *place) {
	t.Helper()
	s := podtest.NewSite(t, podtest.Node(t), network)
	dir := t.TempDir()
	return s, &place{t: t, stays: map[string]string{"podnic serve": `"msg":"serving"`}, command: func(ctx context.Context, script string) *exec.Cmd {
		cmd := s.Pod.Command(ctx, "sh", "-ec", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(s.Podnic)+":"+os.Getenv("PATH"), "PODNIC_STATE_DIR="+s.StateDir)
		return cmd
	}}
}

// inContainer is a container of the packages of the images, with the capabilities that podnic takes. Nothing is built yet.
func inContainer(t *testing.T, network pod.Network) (*podtest.Site, *Container, *place) {
	t.Helper()
	s := podtest.NewSite(t, podtest.Node(t), network)
	s.Remember()
	c, err := Start(t.Context(), s.Pod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.Capabilities += ",net_admin,net_raw"
	const number = "/tmp/running" // the last line is of what was started last
	return s, c, &place{
		t: t,
		// A helper waits for what runs in the container, and keeps its signals.
		command: func(ctx context.Context, script string) *exec.Cmd {
			if strings.HasPrefix(script, "exec ") {
				script = "echo $$ >>" + number + "\n" + script
			}
			return c.Command(ctx, script)
		},
		signal: func(signal syscall.Signal) {
			podtest.Must(t, c.Command(t.Context(), fmt.Sprintf("kill -%d $(tail -n1 %[2]s)\nsed -i '$d' %[2]s", signal, number)))
		},
	}
}

// build builds an image of this checkout's programs in a container.
func build(t *testing.T, c *Container, containerfile, stage string, files map[string]string) {
	t.Helper()
	if err := c.Build(t.Context(), containerfile, stage, files); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// block is the first block of a page that has the words.
func block(t *testing.T, page Page, words string) string {
	t.Helper()
	for _, b := range page.Blocks {
		if strings.Contains(b.Text, words) {
			return b.Text
		}
	}
	t.Fatalf("%s has no block with %q", page.Name, words)
	return ""
}

// leased plays a guest on the pod's tap that has its lease, with the pod's address and routes.
func leased(s *podtest.Site) *pod.Namespace {
	s.T.Helper()
	guest := s.Guest()
	s.Plug(guest)
	s.In(guest, "busybox udhcpc -f -q -n -t 20 -i eth0 -s /bin/true")
	addresses(s, guest)
	return guest
}

// addresses gives a guest what its lease says.
func addresses(s *podtest.Site, guest *pod.Namespace) {
	s.T.Helper()
	s.In(guest, fmt.Sprintf("ip link set lo up\nip address replace %s/32 dev eth0\nip route replace %s dev eth0\nip route replace default via %[2]s",
		s.Pod.Address.Addr(), s.Pod.Gateway))
}

// shared has the range of source ports that the page says.
func shared(t *testing.T, pages ...Page) {
	s, p := inPod(t, pod.PTP.Dual())
	var spec struct {
		Spec struct {
			SecurityContext struct {
				Sysctls []struct{ Name, Value string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(block(t, pages[0], "sysctls")), &spec); err != nil || len(spec.Spec.SecurityContext.Sysctls) != 1 {
		t.Fatalf("the page's sysctl: %+v, %v", spec, err)
	}
	for _, c := range spec.Spec.SecurityContext.Sysctls {
		s.In(s.Pod.Namespace, fmt.Sprintf("sysctl -q -w '%s=%s'", c.Name, c.Value))
	}
	s.Remember()
	p.run(pages[0].Unmarked()...)
	report := s.Must("status", "-o", "json")
	for _, name := range []string{"podPorts", "guestPorts", "sourcePorts"} {
		if !strings.Contains(report, `"`+name+`"`) || !strings.Contains(text(t, "docs/shared.md"), "`"+name+"`") {
			t.Errorf("the page and status have no %s in common: %s", name, report)
		}
	}
	p.ends("podnic serve", syscall.SIGTERM)
	s.Must("restore")
	s.AsBefore()
}

// scraped has a guest that was refused an address, and has one.
func scraped(t *testing.T, pages ...Page) {
	s, p := inPod(t, pod.PTP)
	s.Must("prepare")
	p.stays = map[string]string{"podnic serve --metrics-listen 127": `"msg":"serving"`}
	p.status = map[string]int{"podnic serve --metrics-listen 0.0.0.0": 2}
	const first = "podnic serve --metrics-listen 127"
	p.after = map[string]func(){first: func() { leased(s) }, "curl": func() { p.ends(first, syscall.SIGTERM) }}
	p.run(pages[0].Unmarked()...)
}

// attach gives a pod further interfaces, as Multus does.
func attach(t *testing.T, s *podtest.Site, names ...string) {
	t.Helper()
	for i, name := range names {
		plugin := map[string]any{"type": "bridge", "bridge": fmt.Sprintf("cni%d", i+1), "ipam": map[string]any{
			"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": fmt.Sprintf("10.244.%d.0/24", 5+i)}}},
		}}
		if _, err := s.Pod.Attach(t.Context(), name, plugin); err != nil {
			t.Fatal(err)
		}
	}
}

// put copies files into a container.
func put(t *testing.T, c *Container, files map[string]string) {
	t.Helper()
	for from, to := range files {
		if err := c.Put(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
	}
}

// severalInterfaces has a pod with those that the page names.
func severalInterfaces(t *testing.T, pages ...Page) {
	s, p := inPod(t, pod.PTP)
	attach(t, s, "net1", "net2")
	s.Remember()
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte(block(t, pages[0], "interfaces:\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, said := p.output("podnic prepare --dry-run --config " + file); status != 0 || !strings.Contains(said, "eth0") || !strings.Contains(said, "net1") {
		t.Errorf("with the page's configuration file: exit status %d: %s", status, said)
	}
	p.run(pages[0].Unmarked()[0])
	p.ends("podnic serve", syscall.SIGTERM)
	s.AsBefore()
}

// captures has a guest behind each hop, and a redirect by tc beside it.
func captures(t *testing.T, pages ...Page) {
	s, p := inPod(t, pod.PTP)
	s.Must("prepare")
	s.Serve()
	guest := s.Guest()
	s.Plug(guest)

	tc, _ := inPod(t, pod.PTP)
	tc.Environ = append(tc.Environ, podtest.WithoutForward)
	tc.Must("prepare", "--binding", "redirect")

	in := func(n *pod.Namespace) string { return "ip netns exec " + n.Name + " tcpdump -ni " }
	p.command = func(ctx context.Context, script string) *exec.Cmd {
		return exec.CommandContext(ctx, "sh", "-ec", script)
	}
	p.open = []string{
		"tcpdump -ni eth0 ", in(guest) + "eth0 ", "tcpdump -ni vethXXXX", in(s.Node.Namespace) + s.Pod.HostLink,
		"POD tc ", tc.Pod.Name + " tc ", "POD", s.Pod.Name,
	}
	hops := map[string]string{
		"tcpdump -ni eth0 ": "DHCP, ping", "ip netns exec POD tcpdump -ni tap0": "DHCP, ping", "ip netns exec POD tcpdump -ni eth0-br": "",
		"ip netns exec POD tcpdump -ni eth0-nic": "ping", "tcpdump -ni vethXXXX": "ping",
	}
	p.stays = make(map[string]string)
	for hop := range hops {
		p.stays[hop] = "listening on"
	}
	p.after = map[string]func(){"tcpdump -ni vethXXXX": func() {
		s.In(guest, "busybox udhcpc -f -q -n -t 20 -i eth0 -s /bin/true")
		addresses(s, guest)
		// What is captured last may not be written at the end: it goes on until each has written some.
		ping := podtest.Start(t, "ping", exec.Command("ip", "netns", "exec", guest.Name, "ping", "-i", "0.2", s.Pod.Gateway.String()))
		for hop, want := range hops {
			if strings.Contains(want, "ping") {
				p.running[hop].Says("ICMP echo reply")
			}
		}
		ping.Signal(syscall.SIGINT)
		ping.Wait()
		for hop, want := range hops {
			said := p.ends(hop, syscall.SIGINT)
			if got := strings.Contains(said, "BOOTP/DHCP"); got != strings.Contains(want, "DHCP") {
				t.Errorf("%s: DHCP is seen: %v\n%s", hop, got, said)
			}
			if got := strings.Contains(said, "ICMP echo"); got != strings.Contains(want, "ping") {
				t.Errorf("%s: the ping is seen: %v\n%s", hop, got, said)
			}
		}
	}}
	_, blocks := parted(t, pages[0], "tcpdump")
	p.run(blocks...)
}

// traced has a guest that remembers another network, and that asks again after the server was ended.
func traced(t *testing.T, pages ...Page) {
	s, p := inPod(t, pod.PTP)
	s.Must("prepare")
	server := s.Serve()
	guest := s.Guest()
	s.Plug(guest)
	p.stays = map[string]string{"podnic trace": "tracing tap0"}
	blocks := pages[0].Unmarked()
	if len(blocks) != 2 {
		t.Fatalf("the page has %d traces, not two", len(blocks))
	}
	leases := filepath.Join(t.TempDir(), "leases")
	configuration := leases + ".conf"
	if err := os.WriteFile(configuration, []byte("request subnet-mask, broadcast-address, time-offset, routers, domain-name;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(leases, []byte("lease {\n  interface \"eth0\";\n  fixed-address 10.9.9.9;\n  renew 0 2037/1/1 00:00:00;\n"+
		"  rebind 0 2037/1/1 00:00:00;\n  expire 0 2037/1/1 00:00:00;\n}\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	forSoLong := regexp.MustCompile(` --for \S+`)
	first := blocks[0].Commands[0]
	p.one(Command{Text: forSoLong.ReplaceAllString(first.Text, ""), At: first.At}) // it goes on for as long as the clients take
	trace := p.running["podnic trace"]
	client := podtest.Start(t, "dhclient", exec.Command("ip", "netns", "exec", guest.Name,
		"dhclient", "-d", "-1", "-sf", "/bin/true", "-cf", configuration, "-pf", leases+".pid", "-lf", leases, "eth0"))
	trace.Says("DHCP ACK")
	addresses(s, guest)
	s.In(guest, "ping -c 1 -W 90 "+s.Pod.Gateway.String())
	client.Signal(syscall.SIGKILL)
	client.Wait()
	server.End(syscall.SIGTERM)
	again := podtest.Start(t, "udhcpc", exec.Command("ip", "netns", "exec", guest.Name, "busybox", "udhcpc", "-f", "-i", "eth0", "-s", "/bin/true"))
	trace.Says("no OFFER to DISCOVER")
	again.Signal(syscall.SIGKILL)
	again.Wait()
	said := p.ends("podnic trace", syscall.SIGINT)
	// Neighbour Discovery comes when it comes.
	prints := slices.DeleteFunc(slices.Clone(first.Prints), func(l string) bool { return strings.Contains(l, " ND ") || strings.Contains(l, "frames in") })
	if missing := Unlike(prints, said); missing != "" {
		t.Errorf("%s: nothing like %q:\n%s", first.At, missing, said)
	}

	s.Serve()
	second := blocks[1].Commands[0]
	ran.Store(second.At, true)
	for deadline := time.Now().Add(podtest.Patience); ; {
		// In a group of its own, to be ended with what it started.
		ask := exec.Command("ip", "netns", "exec", guest.Name, "sh", "-c",
			"while :; do busybox udhcpc -f -q -n -t 1 -T 1 -r 10.9.9.9 -i eth0 -s /bin/true; done")
		ask.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := ask.Start(); err != nil {
			t.Fatal(err)
		}
		end := sync.OnceFunc(func() {
			_ = syscall.Kill(-ask.Process.Pid, syscall.SIGKILL)
			_ = ask.Wait() // it was killed
		})
		t.Cleanup(end)
		_, said := p.output(second.Text)
		end()
		// The one frame may also be of Neighbour Discovery, or the client's next one.
		missing := Unlike(second.Prints, said)
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: nothing like %q:\n%s", second.At, missing, said)
		}
	}
}

// onANode is a node to which the DaemonSet has brought the plugin, and which has had a pod.
func onANode(t *testing.T, pages ...Page) {
	_, c, p := inContainer(t, pod.PTP)
	put(t, c, map[string]string{podtest.Program(t): "/usr/local/bin/podnic", "../../deploy/cni/podnic.conflist": "/etc/podnic/podnic.conflist"})
	podtest.Must(t, c.Command(t.Context(), "mkdir -p /opt/cni/bin /etc/cni/podnic.d /run/podnic/cni\n"+
		"podnic cni install --bin-dir /opt/cni/bin --network /etc/podnic/podnic.conflist --conf-dir /etc/cni/podnic.d"))
	p.run(pages[0].Unmarked()...)
	if left := podtest.Must(t, c.Command(t.Context(), "find /opt/cni /etc/cni /run/podnic -mindepth 1 -not -path /opt/cni/bin")); left != "" {
		t.Errorf("the node still has:\n%s", left)
	}
}

// sixCommands builds the page's image, and runs the page in it.
func sixCommands(t *testing.T, pages ...Page) {
	s, c, p := inContainer(t, pod.PTP)
	image := podtest.Guest(t)
	build(t, c, block(t, pages[0], "FROM "), "", map[string]string{
		"bin/podnic": podtest.Program(t), "bin/test/guest/vmlinuz": image.Kernel, "bin/test/guest/initrd": image.Initrd,
	})
	other := podtest.Pod(t, s.Node, pod.Spec{Name: "other", Network: pod.PTP})
	p.after = map[string]func(){"podnic status --wait ready": func() {
		client := guest.Client{Address: s.Pod.Address.Addr(), Dial: other.DialContext}
		got, err := client.Run(t.Context(), "cat /sys/class/net/eth0/address; hostname")
		if want := s.MAC.String() + "\nvm-0\n"; err != nil || got != want {
			t.Errorf("the guest is %q, want %q (%v)", got, want, err)
		}
		// podnic-libvirt is not there, and on purpose.
		if status, said := p.output("podnic doctor"); status != 0 {
			t.Errorf("podnic doctor finds fault with it: %s", said)
		}
	}}
	p.open = []string{"--timeout 60s", "--timeout " + podtest.Patience.String()}
	commands := 0
	for _, b := range pages[0].Unmarked() {
		commands += len(b.Commands)
	}
	if commands != 7 {
		t.Errorf("the page has %d commands, not six and one", commands)
	}
	p.run(pages[0].Unmarked()...)
	if err := c.write(t.Context(), "/etc/podnic/podnic.yaml", 0o644, strings.NewReader(block(t, pages[0], "hook:\n"))); err != nil {
		t.Fatal(err)
	}
	if status, said := p.output("podnic status --config /etc/podnic/podnic.yaml"); status != 0 {
		t.Errorf("with the page's configuration file: exit status %d: %s", status, said)
	}
	podtest.Must(t, c.Command(t.Context(), "virsh destroy vm"))
	s.AsBefore()
}

// inALauncher is the image that deploy/Containerfile makes, run as deploy/launcher/capabilities does, with a guest. Then it gets
// further interfaces of the pod, for which its machine has ports.
func inALauncher(t *testing.T, pages ...Page) {
	s, c, p := inContainer(t, pod.PTP)
	attach(t, s, "net2", "net3")
	s.Remember()
	files := map[string]string{"/src/bin/podnic": podtest.Program(t), "/src/bin/podnic-libvirt": podtest.Program(t) + "-libvirt", "/src/bin/man/": ""}
	for _, name := range []string{"libvirtd.conf", "qemu.conf", "podnic-launcher"} {
		files["deploy/image/"+name] = "../../deploy/image/" + name
	}
	build(t, c, text(t, "deploy/Containerfile"), "podnic-launcher", files)
	domain := filepath.Join(t.TempDir(), "domain.xml")
	xml := strings.Replace(text(t, "deploy/launcher/base/domain.xml"), "<devices>", "<devices><controller type='pci' index='0' model='pcie-root'/>"+
		strings.Repeat("<controller type='pci' model='pcie-root-port'/>", 6), 1)
	if err := os.WriteFile(domain, []byte(xml), 0o644); err != nil {
		t.Fatal(err)
	}
	image := podtest.Guest(t)
	put(t, c, map[string]string{image.Kernel: "/vm/vmlinuz", image.Initrd: "/vm/initrd", domain: "/etc/vm/domain.xml"})
	c.Capabilities = "net_admin,net_raw"
	p.stays = map[string]string{"podnic-launcher": "guest: ready"}
	p.one(Command{Text: "podnic-launcher --domain /etc/vm/domain.xml"})
	p.one(Command{Text: "podnic status --wait ready --timeout " + podtest.Patience.String()})
	p.run(pages[0].Unmarked()...)
	p.run(pages[1].Unmarked()...)
	p.run(pages[2].Unmarked()[1:]...)
	p.open = []string{"NAME", "net2"}
	p.some(pages[3], func(c Command) bool { return strings.HasPrefix(c.Text, attaches) })
	p.ends("podnic-launcher", syscall.SIGTERM)
	s.AsBefore()
}

// attaches begins the one command of running.md that takes a libvirt guest.
const attaches = "podnic attach"

// byCommand is the launcher's image with podnic run as its process, and then the steps that podnic run makes.
func byCommand(t *testing.T, pages ...Page) {
	s, c, p := inContainer(t, pod.PTP)
	image := podtest.Guest(t)
	put(t, c, map[string]string{podtest.Program(t): "/usr/local/bin/podnic", image.Kernel: "/vm/vmlinuz", image.Initrd: "/vm/initrd"})
	s.Remember()
	const console = "/tmp/console"
	p.open = []string{"…", "-m 128 -nodefaults -no-user-config -display none -no-reboot -kernel /vm/vmlinuz -initrd /vm/initrd" +
		" -append '" + guest.Domain{}.CommandLine() + "' -serial file:" + console}
	p.status = map[string]int{"podnic doctor": 1} // there is no libvirt
	p.stays = map[string]string{"podnic run": "serving", "podnic serve": "serving", "podnic trace": "tracing tap0"}
	p.after = map[string]func(){"podnic trace": func() {
		p.ends("podnic trace", syscall.SIGINT)
	}, "podnic restore": func() {
		p.ends("podnic serve", syscall.SIGTERM)
		s.AsBefore()
	}, "podnic run": func() {
		podtest.Must(t, c.Command(t.Context(), "podnic status --wait ready --timeout "+podtest.Patience.String()))
		// The guest says so a moment later, to a file.
		podtest.Must(t, c.Command(t.Context(), fmt.Sprintf("timeout %.0f sh -c 'until grep -q \"guest: lease address=%s \" %s; do sleep 0.1; done'",
			podtest.Patience.Seconds(), s.Pod.Address.Addr(), console)))
		p.ends("podnic run", syscall.SIGTERM)
		s.AsBefore()
	}}
	podtest.Must(t, c.Command(t.Context(), "touch "+console+"\nchmod 0666 "+console))
	for _, page := range pages {
		p.some(page, func(c Command) bool { return !strings.HasPrefix(c.Text, attaches) })
	}
}
