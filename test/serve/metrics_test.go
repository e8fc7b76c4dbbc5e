package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape asks for metrics as Prometheus does, and returns each sample by its name and labels.
func (s *site) scrape(network, address string) (map[string]float64, error) {
	s.t.Helper()
	var values map[string]float64
	// The socket is made by the thread that is in the namespace.
	err := s.pod.Do(func() error {
		conn, err := net.DialTimeout(network, address, patience)
		if err != nil {
			return err
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true,
		}}
		response, err := client.Get("http://podnic/metrics")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %w", response.Status, err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			return err
		}
		values = make(map[string]float64)
		for name, family := range families {
			for _, m := range family.GetMetric() {
				key := name
				for _, l := range m.GetLabel() {
					key += " " + l.GetValue()
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
	s.t.Helper()
	values, err := s.scrape(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	return values
}

func (s *site) compare(got map[string]float64, want map[string]float64) {
	s.t.Helper()
	for key, value := range want {
		if v, ok := got[key]; !ok || v != value {
			s.t.Errorf("%s is %v (there: %t), want %v", key, v, ok, value)
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
			socket := filepath.Join(s.state, "metrics.sock")
			listen := "unix:" + socket
			if mode == "udp" {
				listen = "unix:/mnt/state/metrics.sock"
			}
			server := s.serve("--lease-time", "1h", "--metrics-listen", listen)
			got := s.mustScrape("unix", socket)
			s.compare(got, map[string]float64{
				"podnic_serving": 1, "podnic_guest_ready": 0, "podnic_lease_state none": 1, "podnic_lease_state bound": 0,
				"podnic_dhcp_messages_total request nak": 0, "podnic_dhcp_dropped_total checksum": 0, "podnic_dhcp_errors_total panic": 0,
			})
			if _, there := got["podnic_time_to_ready_seconds"]; there {
				t.Error("there is a time to ready before the guest is")
			}
			e := shapes[0].expect(s)
			s.plug().run(clients[1], e).sees(clients[1].bound, nil)
			s.ready() // and the state is written
			got = s.mustScrape("unix", socket)
			s.compare(got, map[string]float64{
				"podnic_guest_ready": 1, "podnic_lease_state none": 0, "podnic_lease_state bound": 1,
				"podnic_dhcp_messages_total request nak": 1, "podnic_dhcp_messages_total request ack": 1, "podnic_warnings": 0,
			})
			if got["podnic_time_to_ready_seconds"] != got["podnic_timeline_seconds lease"] || got["podnic_timeline_seconds lease"] <= 0 {
				t.Errorf("the guest was ready after %v s, and its lease came after %v s", got["podnic_time_to_ready_seconds"], got["podnic_timeline_seconds lease"])
			}
			if left := got["podnic_lease_expiry_timestamp_seconds"] - got["podnic_lease_since_timestamp_seconds"]; left < 3590 || left > 3610 {
				t.Errorf("the lease of an hour is for %v s", left)
			}
			if _, there := got["podnic_repairs_total"]; there != (mode == "packet") { // an ordinary user may not read the record
				t.Errorf("repairs are told: %t", there)
			}
			server.end(syscall.SIGKILL)
			server = s.serve("--metrics-listen", listen) // the socket that is left is no obstacle
			s.compare(s.mustScrape("unix", socket), map[string]float64{"podnic_guest_ready": 1, "podnic_lease_state bound": 1})
			if status := server.end(syscall.SIGTERM); status != 0 {
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
		s.in(s.pod.Namespace, "ip link set eth0-br down")
		s.must("prepare")
		s.must("prepare") // finds nothing to mend
	}
}

// TestMetricsAreServedWhereAsked has another interface, which the guest does not get, and tries the guest's address too.
func TestMetricsAreServedWhereAsked(t *testing.T) {
	t.Parallel()
	s := newSite(t, "packet", shapes[0])
	s.in(s.node.Namespace, "ip link add other type veth peer name net1 netns "+s.pod.Name+
		"\nip address add 198.51.100.1/24 dev other\nip link set other up")
	s.in(s.pod.Namespace, "ip address add 198.51.100.7/24 dev net1\nip link set net1 up")
	for _, refused := range []string{s.pod.Address.Addr().String() + ":9750", "0.0.0.0:9750", "[::]:9750", ":9750", serverLinkLocal + ":9750", "203.0.113.7:9750"} {
		d := s.start("--metrics-listen", refused)
		select {
		case <-d.done:
		case <-time.After(patience):
			t.Fatalf("%s is served", refused)
		}
		text := strings.Join(d.output(), "\n")
		if d.cmd.ProcessState.ExitCode() != 2 || strings.Count(text, "\n") != 0 || !strings.Contains(text, "--metrics-listen") && !strings.Contains(text, "unix:PATH") {
			t.Errorf("%s: exit status %d: %s", refused, d.cmd.ProcessState.ExitCode(), text)
		}
	}
	s.serve("--metrics-listen", "198.51.100.7:9750")
	// From the node, as Prometheus would.
	s.in(s.node.Namespace, "busybox wget -q -O - http://198.51.100.7:9750/metrics | grep -q '^podnic_serving 1$'")
	if got, err := s.scrape("tcp", "127.0.0.1:9750"); err == nil {
		t.Errorf("it is served elsewhere too: %v", got)
	}
}
