package serve

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// scrape asks for metrics as Prometheus does, and returns each sample by its name and labels; of eth0, the only interface here,
// without that label.
func (s *site) scrape(network, address string) (map[string]float64, error) {
	s.T.Helper()
	var values map[string]float64
	// The socket is made by the thread that is in the namespace.
	err := s.Pod.Do(func() error {
		status, text, err := podtest.Get(func() (net.Conn, error) { return net.DialTimeout(network, address, podtest.Patience) }, "/metrics")
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("status %d: %w", status, err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			return err
		}
		values = make(map[string]float64)
		for name, family := range families {
			for _, m := range family.GetMetric() {
				key := name
				for _, l := range m.GetLabel() {
					if l.GetName() != "interface" || l.GetValue() != "eth0" {
						key += " " + l.GetValue()
					}
				}
				values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return nil
	})
	return values, err
}

// mustScrape is scrape where an answer has to come.
func (s *site) mustScrape(network, address string) map[string]float64 {
	s.T.Helper()
	values, err := s.scrape(network, address)
	if err != nil {
		s.T.Fatal(err)
	}
	return values
}

func (s *site) compare(got map[string]float64, want map[string]float64) {
	s.T.Helper()
	for key, value := range want {
		if v, ok := got[key]; !ok || v != value {
			s.T.Errorf("%s is %v (there: %t), want %v", key, v, ok, value)
		}
	}
}

// TestMetricsFollowTheGuest takes a client through a refusal and a lease, and reads the numbers at a unix socket before
// and after, across a server that is killed.
func TestMetricsFollowTheGuest(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			// In UDP mode the server is an ordinary user in a mount namespace of its own.
			socket := filepath.Join(s.StateDir, "metrics.sock")
			listen := "unix:" + socket
			if mode == "udp" {
				listen = "unix:/mnt/state/metrics.sock"
			}
			server := s.serve("--lease-time", "1h", "--metrics-listen", listen)
			got := s.mustScrape("unix", socket)
			s.compare(got, map[string]float64{
				"podnic_serving": 1, "podnic_guest_ready": 0, "podnic_lease_state ipv4 none": 1, "podnic_lease_state ipv4 bound": 0,
				"podnic_dhcp_messages_total ipv4 request nak": 0, "podnic_dhcp_dropped_total ipv4 checksum": 0, "podnic_dhcp_errors_total panic": 0,
			})
			if _, there := got["podnic_time_to_ready_seconds"]; there {
				t.Error("there is a time to ready before the guest is")
			}
			e := shapes[0].expect(s)
			cable := s.plug()
			client := cable.run(clients[1], e)
			cable.expect(clients[1].reboot(e)...)
			client.sees(clients[1].bound, nil)
			s.Ready() // and the state is written
			got = s.mustScrape("unix", socket)
			s.compare(got, map[string]float64{
				"podnic_guest_ready": 1, "podnic_lease_state ipv4 none": 0, "podnic_lease_state ipv4 bound": 1,
				"podnic_dhcp_messages_total ipv4 request nak": cable.count("server NAK"), "podnic_dhcp_messages_total ipv4 request ack": cable.count("server ACK"),
				"podnic_warnings": 0,
			})
			if got["podnic_time_to_ready_seconds"] != got["podnic_timeline_seconds lease"] || got["podnic_timeline_seconds lease"] <= 0 {
				t.Errorf("the guest was ready after %v s, and its lease came after %v s", got["podnic_time_to_ready_seconds"], got["podnic_timeline_seconds lease"])
			}
			if left := got["podnic_lease_expiry_timestamp_seconds ipv4"] - got["podnic_lease_since_timestamp_seconds ipv4"]; left < 3590 || left > 3610 {
				t.Errorf("the lease of an hour is for %v s", left)
			}
			if _, there := got["podnic_repairs_total"]; there != (mode == "packet") { // an ordinary user may not read the record
				t.Errorf("repairs are told: %t", there)
			}
			server.End(syscall.SIGKILL)
			server = s.serve("--metrics-listen", listen) // the socket that is left is no obstacle
			s.compare(s.mustScrape("unix", socket), map[string]float64{"podnic_guest_ready": 1, "podnic_lease_state ipv4 bound": 1})
			if status := server.End(syscall.SIGTERM); status != 0 {
				t.Errorf("podnic serve: exit status %d", status)
			}
			if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket is left: %v", err)
			}
		})
	}
}

// TestRepairsAreCounted breaks the wiring twice under a server, and has prepare mend it.
func TestRepairsAreCounted(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	s.serve("--metrics-listen", "127.0.0.1:9750")
	for n := range 3 {
		s.compare(s.mustScrape("tcp", "127.0.0.1:9750"), map[string]float64{"podnic_repairs_total": float64(n)})
		s.In(s.Pod.Namespace, "ip link set eth0-br down")
		s.Must("prepare")
		s.Must("prepare") // finds nothing to mend
	}
}

// TestMetricsAreServedWhereAsked has another interface, which the guest does not get, and tries the guest's address too.
func TestMetricsAreServedWhereAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	s.In(s.Node.Namespace, "ip link add other type veth peer name net1 netns "+s.Pod.Name+
		"\nip address add 198.51.100.1/24 dev other\nip link set other up")
	s.In(s.Pod.Namespace, "ip address add 198.51.100.7/24 dev net1\nip link set net1 up")
	for _, refused := range []string{s.Pod.Address.Addr().String() + ":9750", "0.0.0.0:9750", "[::]:9750", ":9750", serverLinkLocal + ":9750", "203.0.113.7:9750"} {
		d := s.start("--metrics-listen", refused)
		select {
		case <-d.Done:
		case <-time.After(podtest.Patience):
			t.Fatalf("%s is served", refused)
		}
		text := d.Output()
		if d.Cmd.ProcessState.ExitCode() != 2 || strings.Count(text, "\n") != 0 || !strings.Contains(text, "--metrics-listen") && !strings.Contains(text, "unix:PATH") {
			t.Errorf("%s: exit status %d: %s", refused, d.Cmd.ProcessState.ExitCode(), text)
		}
	}
	s.serve("--metrics-listen", "198.51.100.7:9750")
	// From the node, as Prometheus would.
	s.In(s.Node.Namespace, "busybox wget -q -O - http://198.51.100.7:9750/metrics | grep -qF 'podnic_serving{interface=\"eth0\"} 1'")
	if got, err := s.scrape("tcp", "127.0.0.1:9750"); err == nil {
		t.Errorf("it is served elsewhere too: %v", got)
	}
}

// TestLiesAreCounted has a guest send a frame of another MAC, which the spoof guard drops. Status says so; the server, which
// has given CAP_NET_ADMIN up, counts what tc does, and may not see nftables' counters.
func TestLiesAreCounted(t *testing.T) {
	for _, binding := range []string{"redirect", podtest.ByTC} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			s := newBoundSite(t, binding, "packet", shapes[0])
			s.Must("restore")
			s.Must("prepare", "--binding", "redirect", "--spoof-guard")
			socket := filepath.Join(s.StateDir, "metrics.sock")
			s.serve("--metrics-listen", "unix:"+socket)
			card := podtest.HoldTap(t, s.Pod.Namespace, "tap0")
			defer card.Close()
			lie := make([]byte, tap.HeaderSize+60)
			copy(lie[tap.HeaderSize:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb6})
			for range 2 {
				if _, err := card.Write(lie); err != nil {
					t.Fatal(err)
				}
			}
			eth0 := s.Status().Interfaces[0]
			if eth0.Spoofed == nil || *eth0.Spoofed != 2 || !slices.ContainsFunc(eth0.Warnings, func(w string) bool {
				return strings.Contains(w, "2 frames in another's name")
			}) {
				t.Errorf("status says %v, %q", eth0.Spoofed, eth0.Warnings)
			}
			value, told := s.mustScrape("unix", socket)["podnic_spoofed_frames_total"]
			if byTC := binding == podtest.ByTC; told != byTC || byTC && value != 2 {
				t.Errorf("the metric is %v, told %v", value, told)
			}
		})
	}
}
