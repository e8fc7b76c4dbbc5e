package serving

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
)

// observation is what a process knows of an interface and its guest when it is asked.
type observation struct {
	iface string
	state statefile.State
	stats dhcp.Stats // of IPv4; zero where it is not served
	// stats6 are those of IPv6; nil where it is not served.
	stats6 *dhcp.Stats
	// repairs is what the record counts; negative where this process may not read it.
	repairs int
	// spoofed is what the spoof guard counts; nil where there is none, or this process may not see it.
	spoofed *uint64
}

// metric is one entry of the table: what it means, and its values for an interface.
type metric struct {
	metrics.Metric
	samples func(*observation) []metrics.Sample
}

// processMetric is one entry of the other table, which is of the process.
type processMetric struct {
	metrics.Metric
	samples func(*processUse) []metrics.Sample
}

// interfaceLabel is the first label of what is of an interface.
const interfaceLabel = "interface"

// Metrics are all that podnic serves, as docs/metrics.md has them.
func Metrics() []metrics.Metric {
	var all []metrics.Metric
	for _, f := range families(new(processUse), nil) {
		all = append(all, f.Metric)
	}
	return all
}

// families are the metrics of a process that serves these interfaces.
func families(process *processUse, interfaces []*observation) []metrics.Family {
	var all []metrics.Family
	for _, m := range processTable {
		all = append(all, metrics.Family{Metric: m.Metric, Samples: m.samples(process)})
	}
	for _, m := range metricTable {
		f := metrics.Family{Metric: m.Metric}
		f.Labels = append([]string{interfaceLabel}, m.Labels...)
		for _, o := range interfaces {
			for _, s := range m.samples(o) {
				s.Labels = append([]string{o.iface}, s.Labels...)
				f.Samples = append(f.Samples, s)
			}
		}
		all = append(all, f)
	}
	return all
}

// familyLabel is the label of what differs by address family, with these values.
const (
	familyLabel = "family"
	ipv4        = "ipv4"
	ipv6        = "ipv6"
)

// byFamily is what is counted of each family that there is.
func (o *observation) byFamily() map[string]*dhcp.Stats {
	all := map[string]*dhcp.Stats{ipv4: &o.stats}
	if o.stats6 != nil {
		all[ipv6] = o.stats6
	}
	return all
}

// both makes the value of a counter of both families together.
func both(count func(*dhcp.Stats) uint64) func(*observation) []metrics.Sample {
	return one(func(o *observation) float64 {
		var n uint64
		for _, s := range o.byFamily() {
			n += count(s)
		}
		return float64(n)
	})
}

// six makes the value of a counter of IPv6.
func six(count func(*dhcp.Stats) uint64) func(*observation) []metrics.Sample {
	return known(func(o *observation) (float64, bool) {
		if o.stats6 == nil {
			return 0, false
		}
		return float64(count(o.stats6)), true
	})
}

// one makes the value of a metric without labels.
func one(value func(*observation) float64) func(*observation) []metrics.Sample {
	return func(o *observation) []metrics.Sample { return []metrics.Sample{{Value: value(o)}} }
}

// known makes the value of a metric without labels that may have none.
func known(value func(*observation) (float64, bool)) func(*observation) []metrics.Sample {
	return func(o *observation) []metrics.Sample {
		if v, ok := value(o); ok {
			return []metrics.Sample{{Value: v}}
		}
		return nil
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it: seconds since 1970.
func seconds(t time.Time) (float64, bool) { return float64(t.UnixMilli()) / 1000, !t.IsZero() }

var processTable = []processMetric{
	{metrics.Metric{
		Name: "podnic_build_info", Type: metrics.Gauge, Labels: []string{"version", "goversion"},
		Help: "Always 1; the labels say which podnic this is.",
	}, func(p *processUse) []metrics.Sample {
		return []metrics.Sample{{Labels: []string{p.version, p.goVersion}, Value: 1}}
	}},
	{metrics.Metric{
		Name: "process_resident_memory_bytes", Type: metrics.Gauge, Unit: "bytes",
		Help: "Resident memory of this process.",
	}, func(p *processUse) []metrics.Sample {
		if p.resident == 0 {
			return nil
		}
		return []metrics.Sample{{Value: p.resident}}
	}},
	{metrics.Metric{
		Name: "process_cpu_seconds_total", Type: metrics.Counter, Unit: "seconds",
		Help: "Processor time of this process, its own and the kernel's for it.",
	}, func(p *processUse) []metrics.Sample { return []metrics.Sample{{Value: p.cpu}} }},
}

var metricTable = []metric{
	{metrics.Metric{
		Name: "podnic_serving", Type: metrics.Gauge,
		Help: "1 while the DHCP server can hear the guest (at layer 2: while podnic is there for it), 0 otherwise.",
	}, one(func(o *observation) float64 { return truth(!o.state.Ready.IsZero()) })},
	{metrics.Metric{
		Name: "podnic_guest_ready", Type: metrics.Gauge,
		Help: "1 while the guest has taken a lease or was seen using an address of the pod's, of either family, 0 otherwise; at layer 2 always 0.",
	}, one(func(o *observation) float64 { return truth(o.state.InUse(time.Now())) })},
	{metrics.Metric{
		Name: "podnic_lease_state", Type: metrics.Gauge, Labels: []string{familyLabel, "state"},
		Help: "1 for the state that the guest's lease is in (none, offered, bound or expired, of IPv6 also released or declined), 0 " +
			"for the others. Family is ipv4, or ipv6 where that is served, here and below.",
	}, leaseStates},
	{metrics.Metric{
		Name: "podnic_lease_since_timestamp_seconds", Type: metrics.Gauge, Unit: "seconds since 1970", Labels: []string{familyLabel},
		Help: "When the lease entered its state; absent if it never had one.",
	}, leaseTimes(func(l dhcp.Lease) time.Time { return l.Since }, func(l dhcp.Lease6) time.Time { return l.Since })},
	{metrics.Metric{
		Name: "podnic_lease_expiry_timestamp_seconds", Type: metrics.Gauge, Unit: "seconds since 1970", Labels: []string{familyLabel},
		Help: "When the lease ends unless it is renewed, or when it ended; absent without a lease and with an infinite one.",
	}, leaseTimes(func(l dhcp.Lease) time.Time { return l.Expires }, func(l dhcp.Lease6) time.Time { return l.Expires })},
	{metrics.Metric{
		Name: "podnic_time_to_ready_seconds", Type: metrics.Gauge, Unit: "seconds",
		Help: "From the start of podnic to the guest's first lease, or to its first use of an address; absent until then.",
	}, known(timeToReady)},
	{metrics.Metric{
		Name: "podnic_timeline_seconds", Type: metrics.Gauge, Unit: "seconds", Labels: []string{"event"},
		Help: "From the start of podnic to each event of the timeline that podnic status shows; absent until it happens.",
	}, timelineSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_messages_total", Type: metrics.Counter, Labels: []string{familyLabel, "type", "outcome"},
		Help: "The guest's DHCP messages that were understood, by type and by what came of them: offer, ack, nak or bootp, of " +
			"IPv6 advertise or reply, was sent, noted (it wants no answer), or dropped.",
	}, exchangeSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_dropped_total", Type: metrics.Counter, Labels: []string{familyLabel, "reason"},
		Help: "What the server read and did not answer, by reason (docs/dhcp.md), neighbour discovery included; what the kernel's filter keeps away is not in it.",
	}, dropSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_queue_drops_total", Type: metrics.Counter,
		Help: "Frames that the kernel dropped because the server's queue was full; always 0 in UDP mode, where it is not known.",
	}, both(func(s *dhcp.Stats) uint64 { return s.QueueDrops })},
	{metrics.Metric{
		Name: "podnic_dhcp_options_left_out_total", Type: metrics.Counter,
		Help: "Options that did not fit into a reply.",
	}, both(func(s *dhcp.Stats) uint64 { return s.OptionsLeftOut })},
	{metrics.Metric{
		Name: "podnic_dhcp_errors_total", Type: metrics.Counter, Labels: []string{"kind"},
		Help: "Errors of the server: send (a reply could not be sent), socket (the socket or its link was lost), panic (a frame " +
			"tripped the handler, and was dropped).",
	}, errorSamples},
	{metrics.Metric{
		Name: "podnic_arp_replies_total", Type: metrics.Counter,
		Help: "ARP requests of the guest that the server answered.",
	}, one(func(o *observation) float64 { return float64(o.stats.Sent[dhcp.KindARP]) })},
	{metrics.Metric{
		Name: "podnic_neighbor_replies_total", Type: metrics.Counter,
		Help: "Neighbour solicitations of the guest that the server answered; absent where IPv6 is not served.",
	}, six(func(s *dhcp.Stats) uint64 { return s.Sent[dhcp.KindNeighbor] })},
	{metrics.Metric{
		Name: "podnic_router_advertisements_total", Type: metrics.Counter,
		Help: "Router advertisements that the server sent, solicited or not; absent where IPv6 is not served.",
	}, six(func(s *dhcp.Stats) uint64 { return s.Sent[dhcp.KindRouterAdvertise] })},
	{metrics.Metric{
		Name: "podnic_repairs_total", Type: metrics.Counter,
		Help: "How often prepare found the wiring not as it should be, and mended it, since the interface was wired; absent where " +
			"the record cannot be read.",
	}, known(func(o *observation) (float64, bool) { return float64(o.repairs), o.repairs >= 0 })},
	{metrics.Metric{
		Name: "podnic_spoofed_frames_total", Type: metrics.Counter,
		Help: "Frames of the guest that the spoof guard dropped since the filter was put in place; absent without --spoof-guard, " +
			"and where nftables has the filter and the process lacks CAP_NET_ADMIN (podnic serve gives it up, podnic run keeps it).",
	}, known(func(o *observation) (float64, bool) {
		if o.spoofed == nil {
			return 0, false
		}
		return float64(*o.spoofed), true
	})},
	{metrics.Metric{
		Name: "podnic_warnings", Type: metrics.Gauge,
		Help: "Warnings that stand now; podnic status has their texts.",
	}, one(func(o *observation) float64 { return float64(len(o.state.Warnings)) })},
}

func leaseStates(o *observation) []metrics.Sample {
	all := states(ipv4, o.state.Lease.State, dhcp.LeaseNone, dhcp.LeaseOffered, dhcp.LeaseBound, dhcp.LeaseExpired)
	if l := o.state.Lease6; l != nil {
		all = append(all, states(ipv6, l.State, dhcp.LeaseNone, dhcp.LeaseOffered, dhcp.LeaseBound, dhcp.LeaseExpired, dhcp.LeaseReleased, dhcp.LeaseDeclined)...)
	}
	return all
}

func states(family, state string, all ...string) []metrics.Sample {
	if state == "" {
		state = dhcp.LeaseNone
	}
	var samples []metrics.Sample
	for _, s := range all {
		samples = append(samples, metrics.Sample{Labels: []string{family, s}, Value: truth(s == state)})
	}
	return samples
}

// leaseTimes are times of the leases, as far as they are known.
func leaseTimes(four func(dhcp.Lease) time.Time, six func(dhcp.Lease6) time.Time) func(*observation) []metrics.Sample {
	return func(o *observation) []metrics.Sample {
		var all []metrics.Sample
		if v, ok := seconds(four(o.state.Lease)); ok {
			all = append(all, metrics.Sample{Labels: []string{ipv4}, Value: v})
		}
		if o.state.Lease6 == nil {
			return all
		}
		if v, ok := seconds(six(*o.state.Lease6)); ok {
			all = append(all, metrics.Sample{Labels: []string{ipv6}, Value: v})
		}
		return all
	}
}

func timeToReady(o *observation) (float64, bool) {
	i := slices.IndexFunc(o.state.Timeline, func(m statefile.Moment) bool { return m.Event == statefile.EventLease })
	if i < 0 {
		return 0, false
	}
	return o.state.Timeline[i].Seconds(), true
}

func timelineSamples(o *observation) []metrics.Sample {
	var all []metrics.Sample
	for _, m := range o.state.Timeline {
		all = append(all, metrics.Sample{Labels: []string{m.Event}, Value: m.Seconds()})
	}
	return all
}

// exchangeSamples has the zeros too: a rate begins at the first scrape.
func exchangeSamples(o *observation) []metrics.Sample {
	var all []metrics.Sample
	add := func(family string, exchanges []dhcp.Exchange, s *dhcp.Stats) {
		for _, e := range exchanges {
			labels := []string{family, string(e.Message), string(e.Outcome)}
			all = append(all, metrics.Sample{Labels: labels, Value: float64(s.Exchanges[e])})
		}
	}
	add(ipv4, dhcp.Exchanges(), &o.stats)
	if o.stats6 != nil {
		add(ipv6, dhcp.Exchanges6(), o.stats6)
	}
	return all
}

func dropSamples(o *observation) []metrics.Sample {
	var all []metrics.Sample
	stats := o.byFamily()
	for _, family := range []string{ipv4, ipv6} {
		for _, reason := range dhcp.DropReasons() {
			if s := stats[family]; s != nil {
				all = append(all, metrics.Sample{Labels: []string{family, reason}, Value: float64(s.Dropped[reason])})
			}
		}
	}
	return all
}

func errorSamples(o *observation) []metrics.Sample {
	var send, socket, panics uint64
	for _, s := range o.byFamily() {
		send, socket, panics = send+s.SendErrors, socket+s.SocketErrors, panics+s.Panics
	}
	return []metrics.Sample{
		{Labels: []string{"send"}, Value: float64(send)},
		{Labels: []string{"socket"}, Value: float64(socket)},
		{Labels: []string{"panic"}, Value: float64(panics)},
	}
}

// processUse is what this process is and has used.
type processUse struct {
	version, goVersion string

	resident float64 // bytes; 0 where /proc does not say
	cpu      float64 // seconds
}

func readProcessUse(version string) *processUse {
	use := &processUse{version: version, goVersion: runtime.Version()}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err == nil {
		use.cpu = float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseFloat(fields[1], 64)
			use.resident = pages * float64(os.Getpagesize())
		}
	}
	return use
}
