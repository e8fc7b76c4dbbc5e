package serve

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// leaseTime6 is short, so that a test sees a renewal.
const leaseTime6 = 20 * time.Second

// network6 is a pod network with IPv6, and what the guest has there.
type network6 struct {
	shape
	// addresses are the pod's, the one that it sends from first.
	addresses []string
	// routes are expressions that lines of the guest's routes match; one that begins with an exclamation mark matches none.
	// Information about further routes is for clients that take it.
	routes, further []string
}

// named6 is the shape of a network that another test has too.
func named6(name string) shape {
	return shapes6[slices.IndexFunc(shapes6, func(s shape6) bool { return s.name == name })].shape
}

// networks6 are the pod networks, of the real plugins as far as they are here.
var networks6 = []network6{
	{
		shape:     shape{name: "bridge", setUp: setUp6, network: pod.Bridge.WithMTU(mtu).Dual()},
		addresses: []string{"fd00:10:244:2::2"},
		routes:    []string{`^default .*via fe80::`, `^fd00:10:244:2::/64 dev eth0 `},
	},
	{
		shape:     shape{name: "ptp", setUp: setUp6, network: pod.PTP.WithMTU(mtu).Dual()},
		addresses: []string{"fd00:10:244:1::2"},
		routes:    []string{`^default .*via fe80::`, `!^fd00:10:244:1::/64 dev eth0 `},
	},
	{
		shape:     shape{name: "ptp6", setUp: setUp6, network: pod.PTP.WithMTU(mtu).IPv6Only()},
		addresses: []string{"fd00:10:244:1::2"},
		routes:    []string{`^default .*via fe80::`, `!^fd00:10:244:1::/64 dev eth0 `},
	},
	{
		shape:     named6("calico"),
		addresses: []string{"fd00:10:244:1::5"},
		routes:    []string{`^default .*via fe80::ecee:eeff:feee:eeee `, `!^fd00:10:244:1::/64`},
	},
	{
		shape:     named6("cilium"),
		addresses: []string{"fd00:10:244:1::5"},
		routes:    []string{`^default .*via fe80::706f:646e:6963:1 `, `!^fd00:10:244:1::/64`},
	},
	{
		// fe80::1 is nobody's: the node takes what comes to its MAC.
		shape: shape{name: "aws", setUp: setUp6, network: byHand6(`
ip link set $LINK addrgenmode none address 0e:11:22:33:44:55 up
ip -6 route add fd00:10:244:1::5 dev $LINK
ip -6 neighbour add fd00:10:244:1::5 lladdr $MAC dev $LINK nud permanent`, `
ip address add fd00:10:244:1::5/128 dev eth0 nodad
ip link set eth0 up
ip -6 route add fe80::1 dev eth0
ip -6 route add default via fe80::1 dev eth0
ip neighbour add fe80::1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent`)},
		addresses: []string{"fd00:10:244:1::5"},
		routes:    []string{`^default .*via fe80::1 `, `!^fd00:10:244:1::/64`},
	},
	{
		// With a second address, and routes beside the default one.
		shape: shape{name: "ovn", setUp: setUp6, network: byHand6(`
ip link add br0 type bridge
ip link set br0 up
ip address add fd00:10:244:1::1/64 dev br0 nodad
ip link set $LINK master br0 up`, `
ip address add fd00:10:244:1::15/64 dev eth0 nodad
ip address add fd00:10:244:1::5/64 dev eth0 nodad
ip link set eth0 up
ip -6 route add fd98::/64 via fd00:10:244:1::1
ip -6 route add default via fd00:10:244:1::1`)},
		addresses: []string{"fd00:10:244:1::5", "fd00:10:244:1::15"},
		routes:    []string{`^default .*via fe80::`, `^fd00:10:244:1::/64 dev eth0 `},
		further:   []string{`^fd98::/64 .*via fe80::`},
	},
}

// client6 is a client that guests have.
type client6 struct {
	name string
	// etc are files of the guest's /etc.
	etc map[string]string
	// command is run by a shell in the guest (testdata/guest6), in the guest's directory.
	command string
	// card, if any, is what the guest's link has to be: it is made of the one behind the tap.
	card string
	// kernel: the client asks from an address that the kernel has made, and leaves routes to the kernel.
	kernel bool
	// takes and returns are the messages that it takes its first lease with, and the first one after a reboot.
	takes, returns string
	// memory is the file below the guest's directory that it remembers a lease in, if any.
	memory string
	// release makes it give the lease up; or releasing does, run as command is. Without both it never does.
	release   syscall.Signal
	releasing string
	// further: it takes information about further routes. The kernel does so above a length of 0 by
	// net.ipv6.conf.*.accept_ra_rt_info_max_plen alone.
	further bool
	// declines: it does when another machine has the address.
	declines bool
	// timeless: it configures addresses without their lifetimes, so that none is deprecated.
	timeless bool
	// single: it takes one address. Of several it asks for the first, and its script is told of the last.
	single bool
	// stateless: it takes no address. It sends asks, if anything.
	stateless bool
	asks      string
}

const (
	dhclient6 = "dhclient -6 -d -cf /etc/conf -sf $SCRIPT -lf lib/leases -pf pid eth0"
	loopback  = "auto lo\niface lo inet loopback\n"
	// networkManager is the bus that NetworkManager wants, and itself.
	networkManager = `
dbus-daemon --config-file=/etc/bus --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.02; done
mkdir -p /var/lib/NetworkManager
chmod 600 /etc/NetworkManager/system-connections/*
exec NetworkManager --debug --log-level=INFO`
)

var clients6 = []client6{
	{
		name:    "systemd-networkd",
		etc:     map[string]string{"systemd/network/10-eth0.network": "[Match]\nName=eth0\n[Network]\nDHCP=no\nIPv6AcceptRA=yes\n"},
		command: "exec /lib/systemd/systemd-networkd",
		takes:   "solicit", returns: "solicit",
		further: true,
	},
	{
		name: "NetworkManager",
		etc: map[string]string{
			"NetworkManager/NetworkManager.conf": "[main]\nplugins=keyfile\ndhcp=internal\ndns=none\nrc-manager=unmanaged\n" +
				"auth-polkit=false\nhostname-mode=none\nno-auto-default=*\n[connectivity]\nenabled=false\n",
			"NetworkManager/system-connections/eth0.nmconnection": "[connection]\nid=eth0\nuuid=6a1e4a52-7c0f-4d6e-9b1e-000000000001\ntype=ethernet\n" +
				"interface-name=eth0\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=auto\naddr-gen-mode=eui64\n",
			"bus": "<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>" +
				"<policy context='default'><allow own='*'/><allow send_type='method_call'/><allow send_destination='*'/>" +
				"<allow receive_type='method_call'/><allow receive_type='method_return'/><allow receive_type='error'/><allow receive_type='signal'/></policy></busconfig>",
		},
		command: networkManager,
		card:    "veth",
		takes:   "solicit", returns: "solicit",
		further: true,
	},
	{
		name:    "dhclient",
		etc:     map[string]string{"conf": "request dhcp6.name-servers, dhcp6.domain-search, dhcp6.fqdn, dhcp6.sntp-servers;\n"},
		command: "exec " + dhclient6,
		kernel:  true,
		takes:   "request", returns: "confirm", memory: "lib/leases",
		releasing: "exec " + strings.Replace(dhclient6, "-d", "-r -d", 1),
		declines:  true,
	},
	{
		name:    "dhcpcd",
		etc:     map[string]string{"conf": "duid\nipv6only\noption dhcp6_name_servers,dhcp6_domain_search\nslaac hwaddr\n"},
		command: "mkdir -p /var/lib/dhcpcd; exec dhcpcd -6 -B -f /etc/conf -c /bin/true eth0",
		takes:   "request", returns: "confirm", memory: "lib/dhcpcd/eth0.lease6",
		release: syscall.SIGALRM,
	},
	{
		name:    "dhcp6c",
		etc:     map[string]string{"conf": "interface eth0 { send ia-na 0; request domain-name-servers; };\nid-assoc na 0 { };\n"},
		command: "mkdir -p /var/lib/dhcpv6; exec dhcp6c -f -D -c /etc/conf -p pid eth0",
		kernel:  true,
		takes:   "request", returns: "solicit",
		release:  syscall.SIGTERM,
		timeless: true,
	},
	{
		// Debian's way: dhclient with its own script.
		name:      "ifupdown-dhcp",
		etc:       map[string]string{"network/interfaces": loopback + "iface eth0 inet6 dhcp\n"},
		command:   "mkdir -p /var/lib/dhcp; ifup eth0; exec sleep infinity",
		kernel:    true,
		takes:     "request",
		returns:   "confirm",
		memory:    "lib/dhcp/dhclient6.eth0.leases",
		releasing: "ifdown --force eth0",
	},
	{
		name:      "ifupdown-auto",
		etc:       map[string]string{"network/interfaces": loopback + "iface eth0 inet6 auto\n\tdhcp 1\n"},
		command:   "mkdir -p /var/lib/dhcp; ifup eth0; exec sleep infinity",
		kernel:    true,
		stateless: true, asks: "information-request",
	},
	{name: "kernel", command: "exec sleep infinity", kernel: true, stateless: true},
	{
		name:    "udhcpc6",
		etc:     map[string]string{"script": "#!/bin/sh\ncase $1 in bound | renew) ip -6 address replace $ipv6/128 dev eth0 valid_lft $lease preferred_lft $lease ;; esac\n"},
		command: "chmod +x /etc/script; exec busybox udhcpc6 -f -R -i eth0 -s /etc/script",
		kernel:  true,
		takes:   "request", returns: "solicit",
		release: syscall.SIGTERM,
		single:  true,
	},
}

// cell6 is a client in a pod network, and how it is served.
type cell6 struct {
	client        client6
	network       network6
	binding, mode string
}

// cells6 are all cells, or a choice: each client in two networks, once behind each binding and through each kind of socket, so
// that each network has two clients or more.
func cells6(all bool) (cells []cell6) {
	for c, client := range clients6 {
		for n, network := range networks6 {
			for b, binding := range []string{"bridge", "redirect"} {
				for m, mode := range modes {
					if client.single && len(network.addresses) > 1 {
						continue
					}
					if all || (n+2*c+3*b)%len(networks6) == 0 && m == (c+b)%2 {
						cells = append(cells, cell6{client, network, binding, mode})
					}
				}
			}
		}
	}
	return cells
}

func (c cell6) name() string {
	return strings.Join([]string{c.binding, c.mode, c.network.name, c.client.name}, "/")
}

// TestEveryClientKeepsItsIPv6 takes each client through its life in pod networks of every kind: first lease, renewal, a
// reboot of the guest, a move to where its addresses are not the pod's, and release. None of that leaves the pod. With
// PODNIC_SOAK it has all cells.
func TestEveryClientKeepsItsIPv6(t *testing.T) {
	t.Parallel()
	for _, cell := range cells6(os.Getenv("PODNIC_SOAK") != "") {
		t.Run(cell.name(), func(t *testing.T) {
			t.Parallel()
			newGuest6(t, cell, "--lease-time", leaseTime6.String()).lives()
		})
	}
}

// TestDocumentHasTheClients holds the table of docs/ipv6.md to the cells that are tested here.
func TestDocumentHasTheClients(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| client |")
	for _, network := range networks6 {
		table.WriteString(" " + network.name + " |")
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(networks6)) + "\n")
	for _, client := range clients6 {
		table.WriteString("| " + client.name + " |")
		for _, network := range networks6 {
			var ways []string
			for _, c := range cells6(false) {
				if c.client.name == client.name && c.network.name == network.name {
					ways = append(ways, c.binding+"/"+c.mode)
				}
			}
			table.WriteString(" " + strings.Join(ways, ", ") + strings.Repeat(" ", min(1, len(ways))) + "|")
		}
		table.WriteString("\n")
	}
	document, err := os.ReadFile("../../docs/ipv6.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), table.String()) {
		t.Errorf("docs/ipv6.md lacks the table\n%s", table.String())
	}
}

// TestClientsDeclineTheirIPv6 has another machine on the pod network with the pod's address: `status` tells of it. The lease
// has no end, as it is by default: the kernel takes an address with a lifetime away before the client can see that it is
// another's (addrconf_dad_stop).
func TestClientsDeclineTheirIPv6(t *testing.T) {
	t.Parallel()
	for _, client := range clients6 {
		if !client.declines {
			continue
		}
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest6(t, cell6{client, networks6[0], "bridge", "packet"})
			podtest.In(t, g.Node.Namespace, "ip address add "+g.network.addresses[0]+"/128 dev cni0 nodad")
			g.boot()
			g.server.Says(`"msg":"decline"`)
			g.Until("its lease is declined", func(r podtest.Report) bool { return r.Interfaces[0].Lease6.State == "declined" })
			g.warned(g.network.addresses[0])
		})
	}
}

// guest6 is a guest with a client, and the server.
type guest6 struct {
	*site
	cell6
	server *podtest.Process
	cable  *cable
	// dir has what the guest keeps.
	dir string
	// running is its client.
	running *podtest.Process
}

func newGuest6(t *testing.T, cell cell6, serve ...string) *guest6 {
	t.Helper()
	g := &guest6{site: newBoundSite(t, cell.binding, cell.mode, cell.network.shape), cell6: cell, dir: t.TempDir()}
	g.wire.Look(func(seen *podtest.Seen) { seen.Discovery = 0 }) // the pod's own
	g.server = g.serve(append(serve, "--log-level", "debug")...)
	g.cable = g.plug()
	if cell.client.card == "veth" { // for who manages Ethernet, and takes a tap for something else
		g.In(g.cable.guest, `
ip link set eth0 down
ip link set eth0 name card address 02:00:00:00:00:01 addrgenmode none
ip link add eth0 address `+g.MAC.String()+` type veth peer name port
ip link set port addrgenmode none
ip link add inside type bridge mcast_snooping 0
ip link set inside addrgenmode none
for link in card port; do
	ip link set $link master inside
	ip link set $link up type bridge_slave learning off # a pod network with hairpins sends back what the guest sent
done
ip link set inside up
ip link set eth0 up`)
	}
	for path, text := range cell.client.etc {
		g.write("etc/"+path, text)
	}
	for _, path := range []string{"passwd", "group", "nsswitch.conf", "ld.so.cache"} {
		if text, err := os.ReadFile("/etc/" + path); err == nil {
			g.write("etc/"+path, string(text))
		}
	}
	g.write("etc/machine-id", "6a1e4a527c0f4d6e9b1e000000000001\n")
	for _, path := range []string{"etc/resolv.conf", "etc/fstab", "lib/leases"} {
		g.write(path, "")
	}
	return g
}

func (g *guest6) write(path, text string) {
	g.T.Helper()
	path = filepath.Join(g.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.T.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		g.T.Fatal(err)
	}
}

// start runs a command as the guest.
func (g *guest6) start(command string) *podtest.Process {
	g.T.Helper()
	clients, err := cache.Need("scripts/setup", "clients")
	if err != nil {
		g.T.Fatal(err)
	}
	here, err := filepath.Abs("testdata")
	if err != nil {
		g.T.Fatal(err)
	}
	cmd := nsenter(g.cable.guest.Path, "unshare", "--mount", "--uts", "--propagation", "private", "--",
		filepath.Join(here, "guest6"), g.dir, clients, command)
	cmd.Env = append(os.Environ(), "SCRIPT="+filepath.Join(here, "note6"))
	return podtest.Start(g.T, g.client.name, cmd)
}

// has waits until what a command says in the guest matches all of some expressions, and none of those that begin with an
// exclamation mark. Clients give no notice of what they make of a lease.
func (g *guest6) has(command string, want ...string) {
	g.T.Helper()
	var text string
	for deadline := time.Now().Add(podtest.Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text, _ = g.cable.guest.Output(g.T.Context(), "sh", "-c", command)
		if !slices.ContainsFunc(want, func(w string) bool {
			expression, absent := strings.CutPrefix(w, "!")
			return regexp.MustCompile("(?m)"+expression).MatchString(text) == absent
		}) {
			return
		}
	}
	g.T.Fatalf("%s shows\n%s\nwant %q", command, text, want)
}

const (
	showAddresses = "ip -6 -o address show dev eth0 scope global"
	showRoutes    = "ip -6 route show"
)

// configured waits until the guest has the pod's addresses, the first one preferred, and its routes, and reaches what is
// beyond the node.
func (g *guest6) configured() {
	g.T.Helper()
	var addresses []string
	for i, address := range g.network.addresses {
		expression := `inet6 ` + address + `/\d+ [^\n]*`
		switch {
		case g.client.timeless:
		case i == 0:
			addresses = append(addresses, "!"+expression+"deprecated")
		default:
			expression += "deprecated"
		}
		addresses = append(addresses, expression)
	}
	g.has(showAddresses, append(addresses, "!tentative")...)
	routes := g.network.routes
	if g.client.further {
		routes = append(slices.Clone(routes), g.network.further...)
	}
	g.has(showRoutes, routes...)
	g.In(g.cable.guest, "ping -6 -c 1 -W 90 -I "+g.network.addresses[0]+" "+beyond)
}

// boot is what a guest does, whatever its client: the link comes up, and the client is started.
func (g *guest6) boot() {
	g.T.Helper()
	g.In(g.cable.guest, "ip link set eth0 up")
	if g.client.kernel && !g.client.stateless {
		g.In(g.cable.guest, usable("scope link"))
	}
	g.running = g.start(g.client.command)
}

// reboot ends all that runs in the guest at once, with all that it had but its files, and boots it.
func (g *guest6) reboot() {
	g.T.Helper()
	inside, err := process.Inside(process.Network, g.cable.guest.Path)
	if err != nil {
		g.T.Fatal(err)
	}
	for _, p := range inside {
		if err := process.End(context.Background(), p.ID, syscall.SIGKILL); err != nil {
			g.T.Fatal(err)
		}
	}
	g.In(g.cable.guest, "ip link set eth0 down; ip address flush dev eth0; ip -6 route flush dev eth0")
	g.boot()
}

// says waits for events of the server.
func (g *guest6) says(events ...string) {
	g.T.Helper()
	for _, event := range events {
		g.server.Says(`"msg":"` + event + `"`)
	}
}

// elsewhere is the address that a guest had in another pod.
const elsewhere = "fd00:10:244:9::99"

func (g *guest6) lives() {
	t := g.T
	t.Helper()
	g.boot()
	if g.client.stateless {
		if g.client.asks != "" {
			g.says(g.client.asks, "reply")
		}
		g.has(showRoutes, g.network.routes...)
		g.has(showAddresses, "!inet6")
		return
	}
	g.says(g.client.takes, "reply")
	g.configured()
	report := g.Ready().Interfaces[0]
	if report.Lease6.State != "bound" || len(report.Lease6.Addresses) != len(g.network.addresses) {
		t.Errorf("lease %+v", report.Lease6)
	}
	g.says("renew", "reply")

	g.reboot()
	g.says(g.client.returns, "reply")
	g.configured()
	if g.client.memory != "" {
		g.moved()
		g.reboot()
		g.server.Says(elsewhere)
		g.says("solicit", "reply")
		g.configured()
	}
	switch {
	case g.client.releasing != "":
		g.start(g.client.releasing)
	case g.client.release != 0:
		release(g.T, g.running, g.client.release, func() bool { return strings.Contains(g.server.Text(), `"msg":"release"`) })
	}
	if g.client.releasing != "" || g.client.release != 0 {
		g.says("release")
		g.Until("its lease is released", func(r podtest.Report) bool { return r.Interfaces[0].Lease6.State == "released" })
	}
	g.In(g.cable.guest, "ip link set eth0 up") // ifdown takes it down
	g.wire.OnlyTheGuest(g.MAC, g.cable.mark)
	g.wire.Look(func(seen *podtest.Seen) {
		if seen.Discovery != 0 {
			t.Errorf("%d solicitations and advertisements of routers left the pod", seen.Discovery)
		}
	})
	if status := g.server.End(syscall.SIGTERM); status != 0 {
		t.Errorf("podnic serve: exit status %d", status)
	}
}

// moved makes the client remember another address than the pod's, as if its machine had been another pod before.
func (g *guest6) moved() {
	g.T.Helper()
	path := filepath.Join(g.dir, g.client.memory)
	text, err := os.ReadFile(path)
	if err != nil {
		g.T.Fatal(err)
	}
	before := netip.MustParseAddr(g.network.addresses[0])
	after := netip.MustParseAddr(elsewhere)
	memory := bytes.ReplaceAll(text, []byte(before.String()), []byte(after.String()))
	memory = bytes.ReplaceAll(memory, before.AsSlice(), after.AsSlice())
	if bytes.Equal(memory, text) {
		g.T.Fatalf("%s does not have %s", path, before)
	}
	if err := os.WriteFile(path, memory, 0o644); err != nil {
		g.T.Fatal(err)
	}
}
