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
	"github.com/podnic/podnic/network/plan"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full is an observation in which every metric has a value.
func full() *observation {
	at := time.Unix(1_700_000_000, 500_000_000)
	o := &observation{iface: "eth0", repairs: 2, spoofed: new(uint64(11))}
	o.state = statefile.State{Ready: at, Lease: dhcp.Lease{State: dhcp.LeaseBound, Since: at, Expires: at.Add(time.Hour)}, Warnings: []string{"a", "b"}}
	o.state.Timeline.Add(statefile.EventStarted, at)
	o.state.Timeline.Add(statefile.EventLease, at.Add(9*time.Second))
	o.stats = dhcp.Stats{
		Sent:       map[dhcp.Kind]uint64{dhcp.KindARP: 3},
		Exchanges:  map[dhcp.Exchange]uint64{{Message: dhcp.KindRequest, Outcome: dhcp.KindNak}: 4},
		Dropped:    map[string]uint64{"checksum": 5},
		QueueDrops: 6, OptionsLeftOut: 7, SendErrors: 8, SocketErrors: 9, Panics: 10,
	}
	o.state.Lease6 = &dhcp.Lease6{State: dhcp.LeaseReleased, Since: at, Expires: at.Add(2 * time.Hour)}
	o.stats6 = &dhcp.Stats{
		Sent:       map[dhcp.Kind]uint64{dhcp.KindNeighbor: 11, dhcp.KindRouterAdvertise: 12},
		Exchanges:  map[dhcp.Exchange]uint64{{Message: dhcp.KindSolicit, Outcome: dhcp.KindAdvertise}: 13},
		Dropped:    map[string]uint64{"malformed": 14},
		QueueDrops: 100, OptionsLeftOut: 100, SendErrors: 100, SocketErrors: 100, Panics: 100,
	}
	return o
}

func read(t *testing.T, process *processUse, interfaces ...*observation) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(metrics.Text(families(process, interfaces))))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// TestMetricsAreWhatTheTableSays has Prometheus' own parser read them, and checks its naming rules
// (https://prometheus.io/docs/practices/naming).
func TestMetricsAreWhatTheTableSays(t *testing.T) {
	families := read(t, &processUse{version: "v1", goVersion: "go1", resident: 4096, cpu: 1.5}, full())
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
			if slices.Equal(values, append([]string{"eth0"}, labels...)) {
				return sample.GetGauge().GetValue() + sample.GetCounter().GetValue()
			}
		}
		t.Errorf("%s has no %q", name, labels)
		return -1
	}
	for want, got := range map[float64]float64{
		0: value("podnic_lease_state", "ipv4", "none"), 1: value("podnic_lease_state", "ipv4", "bound"), 2: value("podnic_repairs_total"),
		3: value("podnic_arp_replies_total"), 4: value("podnic_dhcp_messages_total", "ipv4", "request", "nak"),
		5: value("podnic_dhcp_dropped_total", "ipv4", "checksum"), 106: value("podnic_dhcp_queue_drops_total"),
		107: value("podnic_dhcp_options_left_out_total"), 108: value("podnic_dhcp_errors_total", "send"),
		9: value("podnic_time_to_ready_seconds"), 110: value("podnic_dhcp_errors_total", "panic"),
		11: value("podnic_neighbor_replies_total"), 12: value("podnic_router_advertisements_total"),
		13: value("podnic_dhcp_messages_total", "ipv6", "solicit", "advertise"), 14: value("podnic_dhcp_dropped_total", "ipv6", "malformed"),
		1_700_003_600.5: value("podnic_lease_expiry_timestamp_seconds", "ipv4"), 1_700_007_200.5: value("podnic_lease_expiry_timestamp_seconds", "ipv6"),
	} {
		if got != want {
			t.Errorf("a value is %v, want %v", got, want)
		}
	}
}

// TestMetricsTellInterfacesApart: one process has each metric of an interface once for each, and what is its own once.
func TestMetricsTellInterfacesApart(t *testing.T) {
	other := full()
	other.iface, other.repairs = "net1", 5
	families := read(t, readProcessUse("v1"), full(), other)
	var got []string
	for _, sample := range families["podnic_repairs_total"].GetMetric() {
		got = append(got, fmt.Sprint(sample.GetLabel()[0].GetName(), " ", sample.GetLabel()[0].GetValue(), " ", sample.GetCounter().GetValue()))
	}
	if diff := cmp.Diff([]string{"interface eth0 2", "interface net1 5"}, got); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]int{"podnic_build_info": 1, "process_cpu_seconds_total": 1, "podnic_lease_state": 20} {
		if n := len(families[name].GetMetric()); n != want {
			t.Errorf("%s has %d samples, want %d", name, n, want)
		}
	}
}

// TestNothingKnownIsNothingServed begins with a guest that was never heard of: what is not known is absent, and what can
// be counted is 0.
func TestNothingKnownIsNothingServed(t *testing.T) {
	families := read(t, new(processUse), &observation{repairs: -1})
	for _, name := range []string{
		"podnic_lease_since_timestamp_seconds", "podnic_lease_expiry_timestamp_seconds", "podnic_time_to_ready_seconds",
		"podnic_timeline_seconds", "podnic_repairs_total", "podnic_spoofed_frames_total", "process_resident_memory_bytes",
		"podnic_neighbor_replies_total", "podnic_router_advertisements_total",
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
	seen := &network.Inspection{
		Names: plan.Names{Interface: "eth0"},
		Original: &plan.Snapshot{Addresses: []plan.Address{
			{Link: plan.NIC, Local: netip.MustParsePrefix("10.244.1.5/24")}, {Link: plan.NIC, Local: netip.MustParsePrefix("10.244.1.6/32")},
			{Link: plan.NIC, Local: netip.MustParsePrefix("fd00::5/64")}, {Link: plan.NIC, Local: netip.MustParsePrefix("fe80::5/64")},
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
	seen.Options.PodPorts = plan.Ports{{First: 9750, Last: 9750, Protocol: plan.ProtocolTCP}}
	for text, refused := range map[string]bool{
		"10.244.1.5:9750": false, "[fd00::5]:9750": false, ":9750": false, "10.244.1.5:9751": true, ":9751": true, "169.254.75.10:9750": true,
	} {
		a, err := metrics.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkMetrics(a, seen); (err != nil) != refused {
			t.Errorf("%s, where the pod keeps 9750: %v", text, err)
		}
	}
}
