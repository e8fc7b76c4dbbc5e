package shapes

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
)

// clients are the DHCP clients that a guest may have, and one that knows nothing of classless routes. Each is called
// with the path of its script at the end.
var clients = map[string]string{
	"udhcpc":            udhcpc + " -O 121 -s",
	"udhcpc, mask only": udhcpc + " -s",
	"dhclient":          "dhclient -4 -d eth0 -cf /etc/dhcp/dhclient.conf -lf /etc/leases -pf /etc/pid -sf",
}

const udhcpc = "busybox udhcpc -f -i eth0 -t 30 -T 1 -O search -O mtu"

// lease runs a DHCP client in the guest until it has configured eth0.
func (s *site) lease(client string) *daemon {
	s.t.Helper()
	words := strings.Fields(clients[client])
	path, err := exec.LookPath(words[0])
	if err != nil {
		s.t.Fatalf("%v: run make setup", err)
	}
	script, _, _ := strings.Cut(client, ",")
	args := []string{
		"--net=" + s.guest.Path, "--", "unshare", "--mount", "--uts", "--propagation", "private", "--",
		testdata(s.t, "inside"), s.etc(), path,
	}
	args = append(append(args, words[1:]...), testdata(s.t, script))
	d := start(s.t, client, exec.CommandContext(context.Background(), "nsenter", args...))
	d.says("configured")
	return d
}

// etc makes the guest's /etc: what the clients and their scripts need of the machine's, and nothing that would have
// them tell other programs of the machine.
func (s *site) etc() string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "etc")
	const script = `
mkdir -p "$0/dhcp/dhclient-exit-hooks.d"
cd /etc
for file in dhcp/dhclient.conf dhcp/dhclient-exit-hooks.d/rfc3442-classless-routes \
	ld.so.cache alternatives; do
	[ ! -e $file ] || cp -a $file "$0/$file"
done
: >"$0/fstab" >"$0/resolv.conf" >"$0/leases"`
	if out, err := exec.CommandContext(s.t.Context(), "sh", "-e", "-c", script, dir).CombinedOutput(); err != nil {
		s.t.Fatalf("make the guest's /etc: %v: %s", err, out)
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
	s.t.Helper()
	const script = `
ip -o link show eth0 | sed 's/.* mtu \([0-9]*\) .*/mtu \1/'
ip -o -4 address show eth0 | sed 's/.* inet \([^ ]*\) .*/address \1/'
ip -4 route show | sed 's/ dev eth0//; s/ proto [a-z]*//; s/ src [0-9.]*//; s/ *$//'`
	text := s.in(s.guest, script)
	for _, file := range []string{"hostname", "resolv.conf"} {
		b, err := os.ReadFile(filepath.Join(s.guestEtc, file))
		if err != nil {
			s.t.Fatal(err)
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
	s.t.Helper()
	dir := s.t.TempDir()
	config := filepath.Join(dir, "udhcpd.conf")
	text := "interface " + link + "\nstart " + from + "\nend " + to + "\noption subnet " + mask +
		"\noption hostname from-outside\noption dns 203.0.113.1\noption search outside.example" +
		"\nlease_file " + dir + "/leases\npidfile " + dir + "/pid\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "leases"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "nsenter", "--net="+n.Path, "--", "busybox", "udhcpd", "-f", config)
	start(s.t, "udhcpd", cmd)
}
