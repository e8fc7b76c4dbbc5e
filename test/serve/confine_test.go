package serve

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/podtest"
)

// TestServerKeepsWhatItNeeds starts the server as root with every capability, also from outside of the pod, and looks at each
// of its threads. Then all that it has to go on doing is asked of it: to write the lease, to answer a scrape, to read what
// has taken the place of the resolver configuration, to open its socket again when its link was made anew.
func TestServerKeepsWhatItNeeds(t *testing.T) {
	for _, test := range []struct {
		name, mode string
		outside    bool
		port       string // net.ipv4.ip_unprivileged_port_start
		want       uint64
	}{
		{"packet", "packet", false, "1024", 1 << unix.CAP_NET_RAW},
		{"packet, from outside", "packet", true, "1024", 1 << unix.CAP_NET_RAW},
		{"udp", "udp", false, "67", 0},
		{"udp, from outside", "udp", true, "67", 0},
		{"udp, a privileged port", "udp", false, "1024", 1 << unix.CAP_NET_BIND_SERVICE},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, test.mode, shapes[0])
			s.set("net.ipv4.ip_unprivileged_port_start", test.port)
			if err := os.Chown(s.StateDir, 0, 0); err != nil {
				t.Fatal(err)
			}
			etc := t.TempDir()
			resolver := filepath.Join(etc, "resolv.conf")
			write := func(nameserver string) {
				t.Helper()
				file := filepath.Join(etc, "new")
				if err := os.WriteFile(file, []byte("nameserver "+nameserver+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(file, resolver); err != nil {
					t.Fatal(err)
				}
			}
			write("10.96.0.10")
			socket := filepath.Join(t.TempDir(), "metrics.sock")
			args := []string{"serve", "--log-format", "json", "--state-dir", s.StateDir, "--resolv-conf", resolver, "--metrics-listen", "unix:" + socket}
			cmd := s.Pod.Command(context.Background(), s.Podnic, args...)
			if test.outside {
				cmd = nsenter(s.Node.Namespace.Path, append([]string{s.Podnic}, append(args, "--netns", s.Pod.Path)...)...)
			}
			server := podtest.Start(t, "podnic serve", cmd)
			server.Says(`"msg":"serving"`)
			s.keeps(cmd.Process.Pid, test.want)

			if got := s.mustScrape("unix", socket); len(got) == 0 {
				t.Error("a scrape is empty")
			}
			write("10.96.0.53")
			server.Signal(syscall.SIGHUP)
			server.Says("configuration read again")

			link := "tap0"
			if test.mode == "udp" {
				link = "eth0-br"
			}
			s.In(s.Pod.Namespace, "ip link delete "+link)
			server.Says("socket-lost")
			s.Must("prepare", "--socket", test.mode)
			server.Says("socket-open")
			guest := s.plug().run(clients[0], shapes[0].expect(s))
			guest.sees("bound", []string{"dns=10.96.0.53"})
			s.Ready()
			s.keeps(cmd.Process.Pid, test.want)

			server.Signal(syscall.SIGTERM)
			<-server.Done
			if _, err := os.Lstat(socket); !os.IsNotExist(err) {
				t.Errorf("the metrics' socket is left: %v", err)
			}
			for line := range strings.Lines(server.Output()) {
				if strings.Contains(line, "denied") || strings.Contains(line, "not permitted") || strings.Contains(line, "more privileges") {
					t.Errorf("the server lacks something: %s", line)
				}
			}
		})
	}
}

// keeps fails the test unless each thread of a process has these capabilities and no way to others.
func (s *site) keeps(pid int, capabilities uint64) {
	s.T.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		s.T.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // a thread that has ended
		}
		if err != nil {
			s.T.Fatal(err)
		}
		set := fmt.Sprintf("%016x", capabilities)
		for name, want := range map[string]string{"CapInh": strings.Repeat("0", 16), "CapPrm": set, "CapEff": set, "CapAmb": strings.Repeat("0", 16), "NoNewPrivs": "1"} {
			_, value, _ := strings.Cut(string(text), "\n"+name+":")
			if value, _, _ = strings.Cut(value, "\n"); strings.TrimSpace(value) != want {
				s.T.Errorf("%s: %s is %s, want %s", file, name, strings.TrimSpace(value), want)
			}
		}
	}
}
