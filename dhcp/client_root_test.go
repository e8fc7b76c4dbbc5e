package dhcp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/podtest"
)

// seen waits for what a client's script wrote for a reason and checks it line by line.
func seen(t *testing.T, dir, reason string, want ...string) {
	t.Helper()
	path := filepath.Join(dir, reason)
	var text []byte
	for deadline := time.Now().Add(podtest.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, _ = os.ReadFile(path); len(text) > 0 {
			break
		}
	}
	lines := strings.Split(string(text), "\n")
	for _, w := range want {
		if !slices.Contains(lines, w) {
			t.Errorf("%s: the client does not know %s; it knows\n%s", reason, w, text)
			return
		}
	}
}

// script writes an executable that notes the client's view for each reason and then runs the body.
func script(t *testing.T, dir, reason, body string) string {
	t.Helper()
	path := filepath.Join(dir, "script")
	text := "#!/bin/sh\nenv > " + dir + "/new && mv " + dir + "/new " + dir + "/" + reason + "\n" + body + "\n"
	podtest.Executable(t, path, []byte(text))
	return path
}

func command(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the client is not installed: %v", err)
	}
	return path
}

// TestUdhcpc is busybox: lease, renewal by unicast, release; on a pod whose gateway is a permanent neighbour, and on one
// that has no default route, and through a UDP socket.
func TestUdhcpc(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Settings
		aws     bool
		want    []string
	}{
		{"gateway answered for", Settings{LeaseTime: 30 * time.Second}, true, []string{
			"ip=10.244.1.5", "mask=32", "router=169.254.1.1", "serverid=169.254.1.1", "dns=10.96.0.10", "hostname=vm-0", "mtu=1450",
			"search=default.svc.cluster.local svc.cluster.local cluster.local", "domain=default.svc.cluster.local", "lease=30",
			"staticroutes=169.254.1.1/32 0.0.0.0 0.0.0.0/0 169.254.1.1",
		}},
		{"no default route", Settings{LeaseTime: 30 * time.Second}, false, []string{
			"ip=10.244.1.5", "mask=24", "serverid=169.254.75.10", "staticroutes=169.254.75.10/32 0.0.0.0",
		}},
		{"udp", Settings{LeaseTime: 30 * time.Second, UDP: true}, false, []string{
			"ip=10.244.1.5", "mask=24", "serverid=169.254.75.10", "staticroutes=169.254.75.10/32 0.0.0.0",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := isolatedPod()
			if tt.aws {
				id = awsPod()
			}
			g := newGuest(t, id, tt.options)
			dir := t.TempDir()
			path := script(t, dir, "$1", `
[ "$1" = deconfig ] && ip address flush dev eth0
[ "$1" = bound ] || exit 0
ip address replace $ip/$mask dev eth0
set -- $staticroutes
while [ $# -gt 0 ]; do
	if [ $2 = 0.0.0.0 ]; then ip route replace $1 dev eth0; else ip route replace $1 via $2 dev eth0; fi
	shift 2
done`)
			client := g.start(t, command(t, "/usr/bin/busybox"), "udhcpc", "-f", "-i", "eth0", "-s", path,
				"-O", "search", "-O", "staticroutes", "-O", "mtu", "-O", "121")
			g.wait(t, KindAck, "selecting")
			seen(t, dir, "bound", tt.want...)
			client.Process.Signal(unix.SIGUSR1) // renew now
			g.wait(t, KindAck, "renewing")
			seen(t, dir, "renew", tt.want...)
			client.Process.Signal(unix.SIGUSR2) // release
			if e := g.wait(t, KindRelease, ""); e.Lease.State != LeaseNone {
				t.Errorf("lease %+v", e.Lease)
			}
		})
	}
}

// TestDhclient is ISC's: a reboot with a stale address, a lease, a renewal at T1, a release.
func TestDhclient(t *testing.T) {
	t.Parallel()
	needRoot(t)
	client := command(t, "/usr/sbin/dhclient")
	g := newGuest(t, awsPod(), Settings{LeaseTime: 10 * time.Second})
	dir := t.TempDir()
	path := script(t, dir, "$reason", `
case $reason in BOUND)
	ip address replace $new_ip_address/32 dev eth0
	ip route replace 169.254.1.1 dev eth0
	ip route replace default via 169.254.1.1 dev eth0 ;;
esac`)
	leases, pid := filepath.Join(dir, "leases"), filepath.Join(dir, "pid")
	stale := `lease {
  interface "eth0"; fixed-address 10.9.9.9; option subnet-mask 255.255.255.0; option dhcp-lease-time 86400;
  option dhcp-message-type 5; option dhcp-server-identifier 10.9.9.1;
  renew 6 2036/01/05 00:00:00; rebind 6 2036/01/05 00:00:00; expire 6 2036/01/05 00:00:00;
}
`
	if err := os.WriteFile(leases, []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	// As Debian configures it.
	config := filepath.Join(dir, "conf")
	if err := os.WriteFile(config, []byte(`option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, broadcast-address, time-offset, routers, domain-name, domain-name-servers, domain-search, host-name,
  interface-mtu, rfc3442-classless-static-routes, ntp-servers;
`), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{client, "-4", "-d", "-cf", config, "-sf", path, "-lf", leases, "-pf", pid, "eth0"}
	g.start(t, args...)
	if e := g.wait(t, KindNak, ""); e.Address != addr("10.9.9.9") {
		t.Errorf("nak for %s", e.Address)
	}
	g.wait(t, KindAck, "selecting")
	want := []string{
		"new_ip_address=10.244.1.5", "new_subnet_mask=255.255.255.255", "new_routers=169.254.1.1", "new_domain_name_servers=10.96.0.10",
		"new_host_name=vm-0", "new_domain_name=default.svc.cluster.local", "new_interface_mtu=1450", "new_dhcp_lease_time=10",
		"new_domain_search=default.svc.cluster.local. svc.cluster.local. cluster.local.", "new_dhcp_server_identifier=169.254.1.1",
		"new_rfc3442_classless_static_routes=32 169 254 1 1 0 0 0 0 0 169 254 1 1",
	}
	seen(t, dir, "BOUND", want...)
	g.wait(t, KindAck, "renewing")
	seen(t, dir, "RENEW", want...)
	g.start(t, append([]string{client, "-r"}, args[1:]...)...)
	g.wait(t, KindRelease, "")
}

// TestDhcpcd configures the link by itself; what the kernel has afterwards is what counts.
func TestDhcpcd(t *testing.T) {
	t.Parallel()
	needRoot(t)
	client := command(t, "/usr/sbin/dhcpcd")
	g := newGuest(t, awsPod(), Settings{LeaseTime: 20 * time.Second})
	dir := t.TempDir()
	path := script(t, dir, "$reason", "")
	config := filepath.Join(dir, "conf")
	if err := os.WriteFile(config, []byte("option rapid_commit\noption domain_name_servers,domain_name,domain_search,host_name,classless_static_routes,interface_mtu\nrequire dhcp_server_identifier\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Its files are where no other instance has its own.
	g.start(t, "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /run && mount -t tmpfs none /var/lib/dhcpcd && mkdir -p /run/dhcpcd && exec "$@"`,
		"sh", client, "-4", "-B", "-f", config, "-c", path, "eth0")
	g.wait(t, KindAck, "rapid commit")
	seen(t, dir, "BOUND", "new_ip_address=10.244.1.5", "new_subnet_cidr=32", "new_routers=169.254.1.1",
		"new_domain_name_servers=10.96.0.10", "new_host_name=vm-0", "new_interface_mtu=1450", "new_dhcp_lease_time=20",
		"new_domain_search=default.svc.cluster.local svc.cluster.local cluster.local",
		"new_classless_static_routes=169.254.1.1/32 0.0.0.0 0.0.0.0/0 169.254.1.1")
	g.wait(t, KindAck, "renewing")
}
