package dhcp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/test/podtest"
)

// podOfRoutes is a pod with so many routes more, none of which follows from another.
func podOfRoutes(id identity.Identity, number int) identity.Identity {
	routes := id.V4.Routes
	id.V4.Routes = nil
	for i := range number {
		id.V4.Routes = append(id.V4.Routes, via(fmt.Sprintf("172.16.%d.0/24", i), fmt.Sprintf("10.244.1.%d", 2+i%3)))
	}
	id.V4.Routes = append(id.V4.Routes, routes...)
	return id
}

// words are the routes as udhcpc and dhcpcd show them.
func words(routes []identity.Route) string {
	var all []string
	for _, r := range routes {
		by := netip.IPv4Unspecified()
		if r.Gateway.IsValid() {
			by = r.Gateway
		}
		all = append(all, r.Destination.String(), by.String())
	}
	return strings.Join(all, " ")
}

// routesOf waits until a client has set so many routes in the guest besides those of its subnet, and returns them as words
// does, the default last.
func (g *guest) routesOf(t *testing.T, number int) string {
	t.Helper()
	var all []string
	for deadline := time.Now().Add(podtest.Patience); len(all) < 2*number && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		out, err := g.inside.output("ip", "-4", "route", "show", "dev", "eth0")
		if err != nil {
			t.Fatal(err)
		}
		var last []string
		all = nil
		for line := range strings.Lines(out) {
			switch f := strings.Fields(line); {
			case len(f) < 3 || f[1] != "via":
			case f[0] == "default":
				last = []string{"0.0.0.0/0", f[2]}
			default:
				all = append(all, f[0], f[2])
			}
		}
		all = append(all, last...)
	}
	return strings.Join(all, " ")
}

// TestClientsReadLongRoutes hands out an option 121 of two parts to each client that is to be had. What it shows of it, or
// sets, is compared with what was offered.
func TestClientsReadLongRoutes(t *testing.T) {
	const number = 40
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, g *guest, dir, want string)
	}{
		{"udhcpc", func(t *testing.T, g *guest, dir, want string) {
			g.start(t, command(t, "/usr/bin/busybox"), "udhcpc", "-f", "-i", "eth0", "-s", script(t, dir, "$1", ""), "-O", "121", "-O", "mtu")
			seen(t, dir, "bound", "router=10.244.1.1", "dns=10.96.0.10", "hostname=vm-0", "mtu=1450", "staticroutes="+want)
		}},
		{"dhclient", func(t *testing.T, g *guest, dir, want string) {
			config := filepath.Join(dir, "conf")
			text := "option routes code 121 = array of unsigned integer 8;\nrequest subnet-mask, routers, domain-name-servers, host-name, interface-mtu, routes;\n"
			if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			g.start(t, command(t, "/usr/sbin/dhclient"), "-4", "-d", "-cf", config, "-sf", script(t, dir, "$reason", ""),
				"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "eth0")
			bytes := v4.EncodeRoutes(g.server.handler.offer.Routes)
			seen(t, dir, "BOUND", "new_routers=10.244.1.1", "new_domain_name_servers=10.96.0.10", "new_host_name=vm-0", "new_interface_mtu=1450",
				"new_routes="+strings.Trim(fmt.Sprint(bytes), "[]"))
		}},
		{"dhcpcd", func(t *testing.T, g *guest, dir, want string) {
			config := filepath.Join(dir, "conf")
			if err := os.WriteFile(config, []byte("noarp\noption domain_name_servers,host_name,classless_static_routes,interface_mtu\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			g.start(t, "unshare", "--mount", "sh", "-c",
				`mount -t tmpfs none /run && mount -t tmpfs none /var/lib/dhcpcd && mkdir -p /run/dhcpcd && exec "$@"`,
				"sh", command(t, "/usr/sbin/dhcpcd"), "-4", "-B", "-f", config, "-c", script(t, dir, "$reason", ""), "eth0")
			seen(t, dir, "BOUND", "new_routers=10.244.1.1", "new_domain_name_servers=10.96.0.10", "new_host_name=vm-0", "new_interface_mtu=1450",
				"new_classless_static_routes="+want)
		}},
		// Each part of the option is a list of its own to it, so that a route which is cut in two costs the lease.
		{"systemd-networkd", func(t *testing.T, g *guest, dir, want string) {
			network := filepath.Join(dir, "10-eth0.network")
			text := "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\nUseMTU=yes\nRoutesToDNS=no\n"
			if err := os.WriteFile(network, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			// A /sys that cannot be written tells it that there is no udev to wait for.
			g.start(t, "unshare", "--mount", "sh", "-c",
				`mount -t tmpfs none /run && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp &&
				cp "$1" /run/systemd/network/ && chmod -R a+rwX /run/systemd && mount -t sysfs -o ro sysfs /sys && exec "$2"`,
				"sh", network, command(t, "/lib/systemd/systemd-networkd"))
			if got := g.routesOf(t, number+1); got != want {
				t.Errorf("it has the routes\n%s\nwant\n%s", got, want)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			g := newGuest(t, podOfRoutes(bridgePod(), number), Settings{LeaseTime: 30 * time.Second})
			tt.run(t, g, t.TempDir(), words(g.server.handler.offer.Routes))
			g.wait(t, KindAck, "")
			if lost := g.server.Stats().OptionsLeftOut; lost > 0 {
				t.Errorf("%d options were left out: %v", lost, g.server.Warnings())
			}
		})
	}
}
