package shapes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// clients are the DHCP clients that a guest may have, and one that knows nothing of classless routes. Each is called
// with the path of its script at the end.
var clients = map[string]string{
	"udhcpc":            udhcpc + " -O 121 -s",
	"udhcpc, mask only": udhcpc + " -s",
	"dhclient, IPv6":    "dhclient -6 -d eth0 -cf /etc/dhcp/dhclient.conf -lf /etc/leases6 -pf /etc/pid6 -sf",
	"dhclient":          "dhclient -4 -d eth0 -cf /etc/dhcp/dhclient.conf -lf /etc/leases -pf /etc/pid -sf",
}

const udhcpc = "busybox udhcpc -f -i eth0 -t 30 -T 1 -O search -O mtu"

// lease runs a DHCP client in the guest until it has configured eth0.
func (s *site) lease(client string) *podtest.Process {
	s.T.Helper()
	words := strings.Fields(clients[client])
	path, err := exec.LookPath(words[0])
	if err != nil {
		s.T.Fatalf("%v: run make setup", err)
	}
	script, _, _ := strings.Cut(client, ",")
	if strings.HasPrefix(words[1], "-6") { // it sends from a link-local address
		s.In(s.guest, "ip link set eth0 up; until ip -6 address show eth0 -tentative | grep -q fe80; do sleep 0.05; done")
	}
	args := []string{
		"--net=" + s.guest.Path, "--", "unshare", "--mount", "--uts", "--propagation", "private", "--",
		testdata(s.T, "inside"), s.etc(), path,
	}
	args = append(append(args, words[1:]...), testdata(s.T, script))
	d := podtest.Start(s.T, client, exec.CommandContext(context.Background(), "nsenter", args...))
	d.Says("configured")
	return d
}

// etc makes the guest's /etc: what the clients and their scripts need of the machine's, and nothing that would have
// them tell other programs of the machine.
func (s *site) etc() string {
	s.T.Helper()
	if s.guestEtc != "" {
		return s.guestEtc // another client has it too
	}
	dir := filepath.Join(s.T.TempDir(), "etc")
	const script = `
mkdir -p "$0/dhcp/dhclient-exit-hooks.d"
cd /etc
for file in dhcp/dhclient.conf dhcp/dhclient-exit-hooks.d/rfc3442-classless-routes \
	ld.so.cache alternatives; do
	[ ! -e $file ] || cp -a $file "$0/$file"
done
: >"$0/fstab" >"$0/resolv.conf" >"$0/leases" >"$0/leases6"`
	if out, err := exec.CommandContext(s.T.Context(), "sh", "-e", "-c", script, dir).CombinedOutput(); err != nil {
		s.T.Fatalf("make the guest's /etc: %v: %s", err, out)
	}
	s.guestEtc = dir
	return dir
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// view is what the guest has: as the kernel says, and in its files.
func (s *site) view() string {
	s.T.Helper()
	const script = `
ip -o link show eth0 | sed 's/.* mtu \([0-9]*\) .*/mtu \1/'
ip -o -4 address show eth0 | sed 's/.* inet \([^ ]*\) .*/address \1/'
ip -4 route show | sed 's/ dev eth0//; s/ proto [a-z]*//; s/ src [0-9.]*//; s/ *$//'
ip -o -6 address show eth0 scope global | sed 's/.* inet6 \([^ ]*\) .*/address \1/'
ip -6 route show | sed '/^fe80:/d; s/ dev eth0//; s/via fe80:[0-9a-f:]*/via its router/; s/ proto .*//'`
	text := s.In(s.guest, script)
	for _, file := range []string{"hostname", "resolv.conf"} {
		b, err := os.ReadFile(filepath.Join(s.guestEtc, file))
		if err != nil {
			s.T.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			word, rest, two := strings.Cut(strings.TrimSpace(line), " ")
			switch {
			case !two:
				text += "hostname " + word + "\n"
			case word == "search": // dhclient writes names with their root
				text += "search " + strings.ReplaceAll(strings.TrimSuffix(rest, "."), ". ", " ") + "\n"
			case word == "nameserver":
				text += line
			}
		}
	}
	return text
}

// outsideServer runs a DHCP server of the pod network.
func (s *site) outsideServer(n *pod.Namespace, link, from, to, mask string) {
	s.T.Helper()
	udhcpd(s.T, n, "interface "+link+"\nstart "+from+"\nend "+to+"\noption subnet "+mask+
		"\noption hostname from-outside\noption dns 203.0.113.1\noption search outside.example\n")
}

// udhcpd runs a DHCP server in a namespace.
func udhcpd(t *testing.T, n *pod.Namespace, text string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "udhcpd.conf")
	text += "lease_file " + dir + "/leases\npidfile " + dir + "/pid\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "leases"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "nsenter", "--net="+n.Path, "--", "busybox", "udhcpd", "-f", config)
	podtest.Start(t, "udhcpd", cmd)
}
