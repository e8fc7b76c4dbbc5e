package serve

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/podtest"
)

// leaseTime is short, so that a test sees all of a lease. dhcpcd takes one below 20 s for a mistake.
const leaseTime = 30 * time.Second

// stale is the address that a guest remembers from another network.
const stale = "10.9.9.9"

// client is a DHCP client that guests have.
type client struct {
	name string
	// command is run by a shell in the guest, in a directory and a mount namespace of its own. $0 is the script that it is
	// to call.
	command string
	// remember makes the client's memory of another network in the directory.
	remember func(dir string) error
	// reboot is what passes first with that memory, before the lease is given.
	reboot func(e expectation) []string
	// release makes it give the lease up, or command does: it is run as the other one is.
	release   syscall.Signal
	releasing string
	// bound and renewed are what it calls the events.
	bound, renewed, rebound string
	// view is its view of the lease, as its script's environment.
	view func(e expectation) []string
}

// expectation is what a guest is to be told.
type expectation struct {
	address, gateway, server string
	bits                     int
	routes                   [][2]string // destination and next hop, which is 0.0.0.0 on the link
}

// expect is what the guest of a site is to be told.
func (shape shape) expect(s *site) expectation {
	e := expectation{
		address: s.Pod.Address.Addr().String(), gateway: shape.gateway, server: shape.gateway, bits: shape.bits,
	}
	if s.mode != "packet" || shape.gateway == "" {
		e.server = serverLinkLocal
		e.routes = append(e.routes, [2]string{e.server + "/32", "0.0.0.0"})
	}
	if shape.onLink {
		e.routes = append(e.routes, [2]string{e.gateway + "/32", "0.0.0.0"})
	}
	if e.gateway != "" {
		e.routes = append(e.routes, [2]string{"0.0.0.0/0", e.gateway})
	}
	return e
}

// words joins the routes as "DESTINATION GATEWAY ...".
func (e expectation) words() string {
	var words []string
	for _, r := range e.routes {
		words = append(words, r[0], r[1])
	}
	return strings.Join(words, " ")
}

// bytes are option 121 as dhclient shows it.
func (e expectation) bytes() string {
	var all []byte
	for _, r := range e.routes {
		p := netip.MustParsePrefix(r[0])
		all = append(all, byte(p.Bits()))
		all = append(all, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
		all = append(all, netip.MustParseAddr(r[1]).AsSlice()...)
	}
	return strings.Trim(fmt.Sprint(all), "[]")
}

// script is the commands that set the routes.
func (e expectation) script() string {
	var b strings.Builder
	for _, r := range e.routes {
		if r[1] == "0.0.0.0" {
			fmt.Fprintf(&b, "ip route replace %s dev eth0\n", r[0])
		} else {
			fmt.Fprintf(&b, "ip route replace %s via %s dev eth0\n", r[0], r[1])
		}
	}
	return b.String()
}

// unlessEmpty is "name=value", or nothing that could be missing.
func unlessEmpty(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value
}

const searchList = "default.svc.cluster.local svc.cluster.local cluster.local"

var clients = []client{
	{
		// It has no memory: it asks for an address of the past in DISCOVER.
		name:    "udhcpc",
		command: "exec busybox udhcpc -f -i eth0 -T 1 -r " + stale + " -O search -O mtu -O 121 -s $0",
		reboot:  func(expectation) []string { return []string{"guest DISCOVER to all, wants " + stale} },
		release: syscall.SIGUSR2,
		bound:   "bound", renewed: "renew", rebound: "renew",
		view: func(e expectation) []string {
			return []string{
				"ip=" + e.address, fmt.Sprint("mask=", e.bits), unlessEmpty("router", e.gateway), "serverid=" + e.server,
				"dns=10.96.0.10", "hostname=vm-0", fmt.Sprint("mtu=", mtu), "search=" + searchList,
				"domain=default.svc.cluster.local",
				fmt.Sprint("lease=", leaseTime.Seconds()), "staticroutes=" + e.words(),
			}
		},
	},
	{
		name:      "dhclient",
		command:   "exec dhclient -4 -d -cf conf -sf $0 -lf leases -pf pid eth0",
		remember:  rememberAsDhclient,
		reboot:    initReboot,
		releasing: "dhclient -r -4 -cf conf -sf $0 -lf leases -pf pid eth0",
		bound:     "BOUND", renewed: "RENEW", rebound: "RENEW",
		view: func(e expectation) []string {
			return []string{
				"new_ip_address=" + e.address, "new_subnet_mask=" + mask(e.bits), unlessEmpty("new_routers", e.gateway),
				"new_dhcp_server_identifier=" + e.server, "new_domain_name_servers=10.96.0.10", "new_host_name=vm-0",
				fmt.Sprint("new_interface_mtu=", mtu), "new_domain_name=default.svc.cluster.local",
				"new_domain_search=" + strings.ReplaceAll(searchList, " ", ". ") + ".",
				fmt.Sprint("new_dhcp_lease_time=", leaseTime.Seconds()), "new_rfc3442_classless_static_routes=" + e.bytes(),
			}
		},
	},
	{
		name: "dhcpcd",
		// Its files are where no other instance has its own.
		command: "mount -t tmpfs none /run && mount -t tmpfs none /var/lib/dhcpcd && mkdir -p /run/dhcpcd && " +
			"cp eth0.lease /var/lib/dhcpcd/ && exec dhcpcd -4 -B -f $PWD/conf -c $0 eth0",
		remember: rememberAsDhcpcd,
		reboot:   initReboot,
		release:  syscall.SIGALRM,
		bound:    "BOUND", renewed: "RENEW", rebound: "REBIND",
		view: func(e expectation) []string {
			return []string{
				"new_ip_address=" + e.address, fmt.Sprint("new_subnet_cidr=", e.bits), unlessEmpty("new_routers", e.gateway),
				"new_dhcp_server_identifier=" + e.server, "new_domain_name_servers=10.96.0.10", "new_host_name=vm-0",
				fmt.Sprint("new_interface_mtu=", mtu), "new_domain_name=default.svc.cluster.local",
				"new_domain_search=" + searchList,
				fmt.Sprint("new_dhcp_lease_time=", leaseTime.Seconds()), "new_classless_static_routes=" + e.words(),
			}
		},
	},
}

// initReboot is RFC 2131 §4.3.2: the client asks for what it remembers, is refused, and begins anew.
func initReboot(e expectation) []string {
	return []string{"guest REQUEST to all, wants " + stale, "server NAK, by " + e.server, "guest DISCOVER to all"}
}

func mask(bits int) string {
	all := netip.MustParseAddr("255.255.255.255")
	return netip.PrefixFrom(all, bits).Masked().Addr().String()
}

// rememberAsDhclient also writes a configuration like Debian's, with retries that fit a short lease.
func rememberAsDhclient(dir string) error {
	const leases = `lease {
  interface "eth0"; fixed-address ` + stale + `; option subnet-mask 255.255.255.0; option dhcp-lease-time 86400;
  option dhcp-message-type 5; option dhcp-server-identifier 10.9.9.1;
  renew 6 2036/01/05 00:00:00; rebind 6 2036/01/05 00:00:00; expire 6 2036/01/05 00:00:00;
}
`
	const conf = `option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
initial-interval 1; backoff-cutoff 2; 
request subnet-mask, broadcast-address, time-offset, routers, domain-name, domain-name-servers, domain-search,
  host-name, interface-mtu, rfc3442-classless-static-routes, ntp-servers;
`
	if err := os.WriteFile(filepath.Join(dir, "leases"), []byte(leases), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644)
}

// rememberAsDhcpcd writes the acknowledgement that it would have kept.
func rememberAsDhcpcd(dir string) error {
	const conf = "option domain_name_servers,domain_name,domain_search,host_name,classless_static_routes,interface_mtu\n" +
		"require dhcp_server_identifier\n"
	ack := make([]byte, wire.BootpLen)
	ack[0], ack[1], ack[2] = 2, 1, 6
	copy(ack[16:], netip.MustParseAddr(stale).AsSlice())
	binary.BigEndian.PutUint32(ack[236:], 0x63825363)
	ack = append(ack, 53, 1, 5, 1, 4, 255, 255, 255, 0, 54, 4, 10, 9, 9, 1, 51, 4, 0, 1, 0x51, 0x80, 255)
	ack = append(ack, make([]byte, 60)...)
	if err := os.WriteFile(filepath.Join(dir, "eth0.lease"), ack, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644)
}

// running is a client that runs in the guest.
type running struct {
	*podtest.Process
	t    *testing.T
	name string
	dir  string
}

func (c *cable) run(client client, e expectation) *running {
	c.t.Helper()
	dir := c.t.TempDir()
	if client.remember != nil {
		if err := client.remember(dir); err != nil {
			c.t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/note")
	if err != nil {
		c.t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	own := strings.NewReplacer("DIRECTORY/", dir+"/", "BITS", fmt.Sprint(e.bits), "ROUTES\n", e.script())
	podtest.Executable(c.t, script, []byte(own.Replace(string(text))))
	return &running{podtest.Start(c.t, client.name, c.shell(client.command, script)), c.t, client.name, dir}
}

// shell runs a command beside the client's script.
func (c *cable) shell(command, script string) *exec.Cmd {
	cmd := nsenter(c.guest.Path, "unshare", "--mount", "--", "sh", "-c", command, script)
	cmd.Dir = filepath.Dir(script)
	return cmd
}

// nsenter prepares a program that runs in a network namespace.
func nsenter(path string, command ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), "nsenter", append([]string{"--net=" + path, "--"}, command...)...)
}

// sees waits for an event of the client, compares its view, and returns it. The file is then removed, so that the next one is
// seen.
func (r *running) sees(event string, want []string) (view []string) {
	r.t.Helper()
	path := filepath.Join(r.dir, event)
	var text []byte
	for deadline := time.Now().Add(podtest.Patience); len(text) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s does not come to %s", r.name, event)
		}
		text, _ = os.ReadFile(path)
	}
	r.forget(event)
	lines := strings.Split(string(text), "\n")
	for _, w := range want {
		if w != "" && !slices.Contains(lines, w) {
			r.t.Errorf("%s, %s: the client does not know %s; it knows\n%s", r.name, event, w, text)
		}
	}
	return lines
}

// release asks a client for its lease back, and again after a second, until that has been done: dhcpcd loses a signal that comes
// while it waits for its script.
func release(t *testing.T, client *podtest.Process, signal syscall.Signal, done func() bool) {
	t.Helper()
	var asked time.Time
	podtest.Until(t, "the client's release", func() bool {
		if done() {
			return true
		}
		if time.Since(asked) > time.Second {
			asked = time.Now()
			_ = client.Cmd.Process.Signal(signal) // it may have ended, and then all is said
		}
		return false
	})
}

// forget removes the traces of events.
func (r *running) forget(events ...string) {
	r.t.Helper()
	for _, event := range events {
		if err := os.Remove(filepath.Join(r.dir, event)); err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
	}
}

// never checks that an event has not come since it was forgotten.
func (r *running) never(events ...string) {
	r.t.Helper()
	for _, event := range events {
		if _, err := os.Stat(filepath.Join(r.dir, event)); err == nil {
			r.t.Errorf("%s came to %s", r.name, event)
		}
	}
}

// TestEveryClientKeepsItsLease takes each client through its life, in both modes and where the server is reached in
// different ways: it remembers a stale address and is refused, has its first lease, renews it at T1, is left by the
// server, which is killed and back before the lease ends, rebinds at T2, and releases it. None of that leaves the pod.
func TestEveryClientKeepsItsLease(t *testing.T) {
	t.Parallel()
	for _, binding := range []string{"bridge", "redirect", podtest.ByTC} {
		for _, mode := range modes {
			for i, shape := range shapes {
				for j, client := range clients {
					if binding == podtest.ByTC && i+j > 0 {
						continue // to tc, they are all alike
					}
					t.Run(strings.Join([]string{binding, mode, shape.name, client.name}, "/"), func(t *testing.T) {
						t.Parallel()
						s := newBoundSite(t, binding, mode, shape)
						lives(s, shape.expect(s), client)
					})
				}
			}
		}
	}
}

// TestChainedPodNeedsNoCapability takes the clients through the same in a pod that was wired by the CNI plugin, and whose
// only process is the server: nobody's, without any capability, without a record, and with /proc/sys read-only.
func TestChainedPodNeedsNoCapability(t *testing.T) {
	t.Parallel()
	for _, binding := range []string{"bridge", "redirect"} {
		for _, client := range clients {
			t.Run(binding+"/"+client.name, func(t *testing.T) {
				t.Parallel()
				s := newBoundSite(t, binding, chained, shapes[0])
				lives(s, shapes[0].expect(s), client)
				ended := func(warning string) bool { return strings.HasPrefix(warning, "nobody serves eth0") }
				// As whoever asks in such a pod: once the server has ended, its user's files are nobody else's business.
				if warnings := slices.DeleteFunc(s.ordinaryStatus().Interfaces[0].Warnings, ended); len(warnings) > 0 {
					t.Errorf("status warns: %q", warnings)
				}
			})
		}
	}
}

func lives(s *site, e expectation, client client) {
	t := s.T
	t.Helper()
	lease := []string{"--lease-time", leaseTime.String()}
	server, cable := s.serve(lease...), s.plug()
	guest := cable.run(client, e)
	ack := "server ACK, gives " + e.address + ", by " + e.server
	cable.expect(client.reboot(e)...)
	cable.expect("server OFFER, gives "+e.address+", by "+e.server,
		"guest REQUEST to all, wants "+e.address+", by "+e.server, ack)
	view := client.view(e)
	guest.sees(client.bound, view)
	bound := s.Ready().Interfaces[0].Lease
	lost := []string{"deconfig", "EXPIRE", "FAIL"} // what clients call when they have no lease any more, or none yet
	guest.forget(lost...)

	unicast, broadcast := "guest REQUEST to one, has "+e.address, "guest REQUEST to all, has "+e.address
	cable.expect(unicast, ack)
	guest.sees(client.renewed, view)

	s.renewed(bound.Expires) // what is not written yet goes with the server
	server.End(syscall.SIGKILL)
	cable.cut.Store(true)
	cable.expect(unicast)
	server = s.serve(lease...)
	if after := s.Ready().Interfaces[0].Lease; after.State != "bound" || !after.Since.Equal(bound.Since) {
		t.Errorf("the lease %+v became %+v when the server was killed", bound, after)
	}
	cable.expect(broadcast, ack)
	cable.cut.Store(false)
	guest.sees(client.rebound, view)
	guest.never(lost...)

	if client.releasing != "" {
		podtest.Start(t, client.releasing, cable.shell(client.releasing, filepath.Join(guest.dir, "script")))
	} else {
		release(t, guest.Process, client.release, func() bool { return cable.count("guest RELEASE") > 0 })
	}
	cable.expect("guest RELEASE to one, has " + e.address + ", by " + e.server)
	server.Says(`"msg":"release"`)
	s.onlyTheGuestLeft(cable)
	if status := server.End(syscall.SIGTERM); status != 0 {
		t.Errorf("podnic serve: exit status %d", status)
	}
}
