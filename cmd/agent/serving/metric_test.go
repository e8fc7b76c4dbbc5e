package serving

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full is an observation in which every metric has a value.
func full() *observation {
	at := time.Unix(1_700_000_000, 500_000_000)
	o := &observation{version: "v1", goVersion: "go1", repairs: 2, process: processUse{resident: 4096, cpu: 1.5}}
	o.state = statefile.State{Ready: at, Lease: dhcp.Lease{State: dhcp.LeaseBound, Since: at, Expires: at.Add(time.Hour)}, Warnings: []string{"a", "b"}}
	o.state.Timeline.Add(statefile.EventStarted, at)
	o.state.Timeline.Add(statefile.EventLease, at.Add(9*time.Second))
	o.stats = dhcp.Stats{
		Sent:       map[dhcp.Kind]uint64{dhcp.KindARP: 3},
		Exchanges:  map[dhcp.Exchange]uint64{{Message: dhcp.KindRequest, Outcome: dhcp.KindNak}: 4},
		Dropped:    map[string]uint64{"checksum": 5},
		QueueDrops: 6, OptionsLeftOut: 7, SendErrors: 8, SocketErrors: 9, Panics: 10,
	}
	return o
}

func read(t *testing.T, o *observation) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(metrics.Text(o.families())))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// TestMetricsAreWhatTheTableSays has Prometheus' own parser read them, and checks its naming rules
// (https://prometheus.io/docs/practices/naming).
func TestMetricsAreWhatTheTableSays(t *testing.T) {
	families := read(t, full())
	for _, m := range Metrics() {
		f := families[m.Name]
		if f == nil {
			t.Errorf("%s is not served", m.Name)
			continue
		}
		if got := strings.ToLower(f.GetType().String()); got != m.Type || f.GetHelp() != m.Help {
			t.Errorf("%s is a %s: %s", m.Name, got, f.GetHelp())
		}
		for _, sample := range f.GetMetric() {
			var labels []string
			for _, l := range sample.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if !slices.Equal(labels, m.Labels) {
				t.Errorf("%s has the labels %q, want %q", m.Name, labels, m.Labels)
			}
		}
		if counts := strings.HasSuffix(m.Name, "_total"); counts != (m.Type == metrics.Counter) {
			t.Errorf("%s is a %s", m.Name, m.Type)
		}
		if unit := strings.Fields(m.Unit + " -")[0]; unit != "-" && !strings.Contains(m.Name+"_", "_"+unit+"_") {
			t.Errorf("%s does not name its unit, %s", m.Name, m.Unit)
		}
	}
	value := func(name string, labels ...string) float64 {
		for _, sample := range families[name].GetMetric() {
			var values []string
			for _, l := range sample.GetLabel() {
				values = append(values, l.GetValue())
			}
			if slices.Equal(values, labels) {
				return sample.GetGauge().GetValue() + sample.GetCounter().GetValue()
			}
		}
		t.Errorf("%s has no %q", name, labels)
		return -1
	}
	for want, got := range map[float64]float64{
		0: value("podnic_lease_state", "none"), 1: value("podnic_lease_state", "bound"), 2: value("podnic_repairs_total"),
		3: value("podnic_arp_replies_total"), 4: value("podnic_dhcp_messages_total", "request", "nak"),
		5: value("podnic_dhcp_dropped_total", "checksum"), 6: value("podnic_dhcp_queue_drops_total"),
		7: value("podnic_dhcp_options_left_out_total"), 8: value("podnic_dhcp_errors_total", "send"),
		9: value("podnic_time_to_ready_seconds"), 10: value("podnic_dhcp_errors_total", "panic"),
		1_700_003_600.5: value("podnic_lease_expiry_timestamp_seconds"),
	} {
		if got != want {
			t.Errorf("a value is %v, want %v", got, want)
		}
	}
}

// TestNothingKnownIsNothingServed begins with a guest that was never heard of: what is not known is absent, and what can
// be counted is 0.
func TestNothingKnownIsNothingServed(t *testing.T) {
	families := read(t, &observation{repairs: -1})
	for _, name := range []string{
		"podnic_lease_since_timestamp_seconds", "podnic_lease_expiry_timestamp_seconds", "podnic_time_to_ready_seconds",
		"podnic_timeline_seconds", "podnic_repairs_total", "process_resident_memory_bytes",
	} {
		if families[name] != nil {
			t.Errorf("%s is served: %v", name, families[name])
		}
	}
	if n := len(families["podnic_dhcp_messages_total"].GetMetric()); n != len(dhcp.Exchanges()) {
		t.Errorf("%d kinds of messages", n)
	}
	if n := len(families["podnic_dhcp_dropped_total"].GetMetric()); n != len(dhcp.DropReasons()) {
		t.Errorf("%d reasons", n)
	}
}

// TestMetricsAreDocumented compares the table of docs/metrics.md with the code, row by row.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range Metrics() {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", m.Name, m.Type, m.Unit, strings.Join(m.Labels, ", "), m.Help))
	}
	row := regexp.MustCompile("^\\| `[a-z_]+` \\|")
	for line := range strings.Lines(string(text)) {
		if row.MatchString(line) {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/metrics.md (-code +document):\n%s", diff)
	}
}

// TestDashboardQueriesWhatExists checks each query of the dashboard: its metrics, and the labels and values that it picks.
func TestDashboardQueriesWhatExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "grafana", "podnic.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Fatalf("%v: %+v", err, dashboard)
	}
	known := make(map[string][]string)
	for _, m := range Metrics() {
		known[m.Name] = append([]string{"pod", "namespace", "instance", "job"}, m.Labels...) // what Prometheus adds to each
	}
	name := regexp.MustCompile(`\b(podnic|process)_[a-z_]+\b(\{[^}]*\})?`)
	label := regexp.MustCompile(`([a-z]+)\s*=~?`)
	used := make(map[string]bool)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			found := name.FindAllString(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s: %q has no metric", panel.Title, target.Expr)
			}
			for _, text := range found {
				metric, selector, _ := strings.Cut(text, "{")
				used[metric] = true
				if known[metric] == nil {
					t.Errorf("%s: there is no metric %s", panel.Title, metric)
				}
				for _, l := range label.FindAllStringSubmatch(selector, -1) {
					if !slices.Contains(known[metric], l[1]) {
						t.Errorf("%s: %s has no label %s", panel.Title, metric, l[1])
					}
				}
			}
		}
	}
	for metric := range known {
		if !used[metric] {
			t.Errorf("%s is on no panel", metric)
		}
	}
}

func TestMetricsAreNotServedAtAnAddressOfTheGuest(t *testing.T) {
	seen := &network.State{
		Names: network.Names{Interface: "eth0"},
		Original: &network.Snapshot{Addresses: []network.Address{
			{Link: network.NIC, Local: netip.MustParsePrefix("10.244.1.5/24")}, {Link: network.NIC, Local: netip.MustParsePrefix("10.244.1.6/32")},
			{Link: network.NIC, Local: netip.MustParsePrefix("fd00::5/64")}, {Link: network.NIC, Local: netip.MustParsePrefix("fe80::5/64")},
		}},
	}
	for text, refused := range map[string]bool{
		"unix:/run/podnic/metrics.sock": false,
		"127.0.0.1:9750":                false,
		"[::1]:9750":                    false,
		"198.51.100.7:9750":             false,
		"[fe80::7%net1]:9750":           false,
		"10.244.1.5:9750":               true,
		"10.244.1.6:9750":               true,
		"[::ffff:10.244.1.5]:9750":      true,
		"[fd00::5]:9750":                true,
		"[fe80::5%eth0]:9750":           true,
		"0.0.0.0:9750":                  true,
		"[::]:9750":                     true,
		":9750":                         true,
		"169.254.75.10:9750":            true,
	} {
		a, err := metrics.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		err = checkMetrics(a, seen)
		if network.IsRefusal(err) != refused || (err != nil) != refused {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && !strings.Contains(err.Error(), "unix:PATH") {
			t.Errorf("%s: no remedy: %v", text, err)
		}
	}
}
