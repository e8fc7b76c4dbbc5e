package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
)

// demo is what the steps share. What is nil was not made yet.
type demo struct {
	podnic string
	ipv6   bool // of IPv6 alone
	screen *screen

	node     *pod.Node
	vm       *pod.Pod // whose network the guest takes over
	other    *pod.Pod // another one, to see it from
	before   pod.State
	libvirtd *libvirtd.Daemon
	console  *guest.Console
	agent    *agent // podnic run
}

func (d *demo) makePods(ctx context.Context) (err error) {
	d.screen.step("A pod, made by the CNI plugin ptp in network namespaces")
	if d.node, err = pod.NewNode(ctx); err != nil {
		return err
	}
	network := pod.PTP
	if d.ipv6 {
		network = pod.PTP.IPv6Only()
	}
	if d.vm, err = d.node.AddPod(ctx, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network}); err != nil {
		return err
	}
	if d.other, err = d.node.AddPod(ctx, pod.Spec{Name: "other", Network: network}); err != nil {
		return err
	}
	if d.before, err = d.vm.State(ctx); err != nil {
		return err
	}
	if err := d.showInterface(ctx); err != nil {
		return err
	}
	d.screen.fact("another pod", "%s", d.address(d.other))
	return nil
}

// address is that of a pod, in the family of the demo.
func (d *demo) address(p *pod.Pod) netip.Prefix {
	if d.ipv6 {
		return p.Address6
	}
	return p.Address
}

// showInterface prints the pod's interface as iproute2 sees it.
func (d *demo) showInterface(ctx context.Context) error {
	link, err := d.vm.Output(ctx, "ip", "-br", "link", "show", "dev", pod.Interface)
	if err != nil {
		return err
	}
	family := "-4"
	if d.ipv6 {
		family = "-6"
	}
	address, err := d.vm.Output(ctx, "ip", "-br", family, "address", "show", "dev", pod.Interface, "scope", "global")
	if err != nil {
		return err
	}
	routes, err := d.vm.Output(ctx, "ip", family, "route")
	if err != nil {
		return err
	}
	mac := strings.Fields(link)[2]
	d.screen.fact("eth0", "%s  %s", strings.Join(strings.Fields(address)[2:], " "), mac)
	name := "routes"
	for route := range strings.Lines(routes) {
		d.screen.fact(name, "%s", route)
		name = ""
	}
	return nil
}

func (d *demo) startLibvirtd(ctx context.Context) (err error) {
	d.screen.step("libvirtd, in the pod")
	began := time.Now()
	if d.libvirtd, err = libvirtd.Start(ctx, d.vm); err != nil {
		return err
	}
	d.screen.fact("ready after", "%d ms", time.Since(began).Milliseconds())
	d.accelerator(d.libvirtd.KVM)
	return nil
}

func (d *demo) accelerator(kvm bool) {
	words := "KVM"
	if !kvm {
		words = "software emulation: KVM does not work on this machine"
	}
	d.screen.fact("guests by", "%s", words)
}

// runDomain has libvirt run the guest.
func (d *demo) runDomain(ctx context.Context) error {
	d.screen.step("podnic run: the guest becomes the pod")
	image, err := d.image()
	if err != nil {
		return err
	}
	domain := guest.Domain{Name: "vm", Image: image, KVM: d.libvirtd.KVM, Console: d.consoleFile()}
	xml, err := domain.XML()
	if err != nil {
		return err
	}
	file := filepath.Join(d.vm.Dir, "vm.xml")
	if err := os.WriteFile(file, []byte(xml), 0o644); err != nil {
		return err
	}
	d.screen.fact("guest", "%s, no interface in its XML", d.guest(image))
	return d.run(ctx, "--domain", file, "--connect", d.libvirtd.URI)
}

// runCommand has podnic run QEMU, which takes its tap as a descriptor.
func (d *demo) runCommand(ctx context.Context) error {
	d.screen.step("podnic run -- qemu-system-x86_64: the guest becomes the pod")
	kvm, err := guest.KVM(ctx)
	if err != nil {
		return err
	}
	d.accelerator(kvm)
	image, err := d.image()
	if err != nil {
		return err
	}
	monitor := filepath.Join(d.vm.Dir, "monitor")
	network := []string{
		"-netdev", "tap,id=pod,fd=$(PODNIC_TAP_FD)",
		"-device", "virtio-net-pci,netdev=pod,mac=$(PODNIC_MAC),host_mtu=$(PODNIC_MTU)",
	}
	machine := guest.Machine{
		Image: image, KVM: kvm, Serial: []string{d.consoleFile()},
		Devices: append(network, "-qmp", "unix:"+monitor+",server=on,wait=off"),
	}
	d.screen.fact("guest", "%s", d.guest(image))
	d.screen.fact("network", "%s", strings.Join(network, " "))
	return d.run(ctx, append([]string{"--tap-fd", "--qmp", monitor, "--"}, machine.Command(ctx).Args...)...)
}

// programs are those that the guest asks for its leases with.
func (d *demo) programs() []string {
	if d.ipv6 {
		return []string{guest.DHCPv6Client}
	}
	return nil
}

func (d *demo) image() (*guest.Image, error) {
	return guest.BuildWith(d.vm.Dir, guest.Extra{Programs: d.programs()})
}

func (d *demo) guest(image *guest.Image) string {
	return strings.Join(append([]string{"Linux " + image.Version, "busybox"}, append(d.programs(), "128 MiB")...), ", ")
}

func (d *demo) consoleFile() string { return filepath.Join(d.vm.Dir, "console") }

// run starts podnic, and shows what happens until the guest is ready.
func (d *demo) run(ctx context.Context, args ...string) (err error) {
	if d.console, err = guest.Follow(d.consoleFile()); err != nil {
		return err
	}
	if d.agent, err = startAgent(ctx, d.podnic, d.vm, args...); err != nil {
		return err
	}
	return d.agent.untilReady(ctx, func(e timelineEvent, after time.Duration) { d.screen.event(after, e.Event) })
}

func (d *demo) drawWiring(ctx context.Context) error {
	d.screen.step("podnic status: the wiring")
	drawing, err := d.agent.status(ctx)
	if err != nil {
		return err
	}
	// The timeline was shown as it happened.
	drawing, _, _ = strings.Cut(drawing, "\n\n  timeline")
	d.screen.block(drawing)
	return nil
}

func (d *demo) useGuest(ctx context.Context) error {
	d.screen.step("The guest, as it sees itself and as the other pod sees it")
	prefix, gateway := "guest: lease ", d.vm.Gateway
	if d.ipv6 {
		prefix, gateway = "guest: lease6 ", d.vm.Gateway6
	}
	lease, err := d.console.Wait(ctx, prefix)
	if err != nil {
		return err
	}
	fields := guest.Fields(lease)
	if d.ipv6 {
		d.screen.fact("lease", "%s, name %s", fields["address"], fields["hostname"])
		d.screen.fact("router", "%s", fields["router"])
	} else {
		d.screen.fact("lease", "%s/%s, MTU %s, hostname %s", fields["address"], fields["mask"], fields["mtu"], fields["hostname"])
	}
	d.screen.fact("resolver", "%s, search %s", fields["dns"], strings.ReplaceAll(fields["search"], ",", " "))
	address := d.address(d.vm).Addr()
	if fields["address"] != address.String() {
		return fmt.Errorf("the guest has the address %s and not the pod's, %s", fields["address"], address)
	}
	if d.ipv6 && (fields["router"] == "" || fields["dns"] == "") {
		return errors.New("the guest lacks a router or a resolver")
	}
	if _, err := d.console.Wait(ctx, "guest: ready"); err != nil {
		return err
	}
	client := guest.Client{Address: address, Dial: d.other.DialContext}
	ping, err := client.Run(ctx, "ping -c 1 -W 3 "+gateway.String()+" | sed -n 2p")
	if err != nil {
		return err
	}
	d.screen.fact("ping", "guest → gateway: %s", strings.TrimSpace(ping))
	hello, err := client.Hello(ctx)
	if err != nil {
		return err
	}
	d.screen.fact("TCP", "%s → %s: %q", d.address(d.other).Addr(), client.URL("/hello"), strings.TrimSpace(hello))
	return nil
}

func (d *demo) endGuest(ctx context.Context) error {
	d.screen.step("The guest shuts down")
	client := guest.Client{Address: d.address(d.vm).Addr(), Dial: d.other.DialContext}
	if _, err := client.Run(ctx, "shutdown"); err != nil {
		return err
	}
	if _, err := d.console.Wait(ctx, "guest: bye"); err != nil {
		return err
	}
	if err := d.agent.wait(); err != nil {
		return err
	}
	d.screen.fact("podnic run", "exit status 0")
	return nil
}

func (d *demo) compare(ctx context.Context) error {
	d.screen.step("The pod has its interface back")
	after, err := d.vm.State(ctx)
	if err != nil {
		return err
	}
	if diff := d.before.Diff(after); diff != "" {
		d.screen.block(diff)
		return errors.New("the pod's network is not as it was before")
	}
	if err := d.showInterface(ctx); err != nil {
		return err
	}
	d.screen.fact("compared", "%d lines of links, addresses, routes, rules, neighbours, firewall and settings: all as before",
		strings.Count(after.Text, "\n"))
	return nil
}

// explain shows what the programs said before a failure.
func (d *demo) explain() {
	if d.console != nil {
		fmt.Fprintf(d.screen.w, "\nThe guest's console:\n")
		d.screen.block(d.console.Text())
	}
	if d.agent != nil {
		fmt.Fprintf(d.screen.w, "\npodnic's log:\n")
		d.screen.block(d.agent.log())
	}
}

// close removes everything, and fails when something is left.
func (d *demo) close() error {
	var err error
	if d.agent != nil {
		d.agent.end()
	}
	if d.console != nil {
		d.console.Close()
	}
	if d.libvirtd != nil {
		err = errors.Join(err, d.libvirtd.Close())
	}
	if d.node != nil {
		err = errors.Join(err, d.node.Close())
		for _, left := range d.node.Leftovers() {
			err = errors.Join(err, errors.New("left behind: "+left))
		}
	}
	return err
}
