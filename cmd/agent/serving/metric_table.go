package serving

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
)

// observation is what a process knows of itself and its guest when it is asked.
type observation struct {
	version   string
	state     statefile.State
	stats     dhcp.Stats // zero at layer 2
	goVersion string
	// repairs is what the record counts; negative where this process may not read it.
	repairs int
	process processUse
}

// metric is one entry of the table: what it means, and its values.
type metric struct {
	metrics.Metric
	samples func(*observation) []metrics.Sample
}

// Metrics are all that podnic serves, as docs/metrics.md has them.
func Metrics() []metrics.Metric {
	all := make([]metrics.Metric, len(metricTable))
	for i, m := range metricTable {
		all[i] = m.Metric
	}
	return all
}

func (o *observation) families() []metrics.Family {
	all := make([]metrics.Family, len(metricTable))
	for i, m := range metricTable {
		all[i] = metrics.Family{Metric: m.Metric, Samples: m.samples(o)}
	}
	return all
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

var metricTable = []metric{
	{metrics.Metric{
		Name: "podnic_build_info", Type: metrics.Gauge, Labels: []string{"version", "goversion"},
		Help: "Always 1; the labels say which podnic this is.",
	}, func(o *observation) []metrics.Sample {
		return []metrics.Sample{{Labels: []string{o.version, o.goVersion}, Value: 1}}
	}},
	{metrics.Metric{
		Name: "podnic_serving", Type: metrics.Gauge,
		Help: "1 while the DHCP server can hear the guest (at layer 2: while podnic is there for it), 0 otherwise.",
	}, one(func(o *observation) float64 { return truth(!o.state.Ready.IsZero()) })},
	{metrics.Metric{
		Name: "podnic_guest_ready", Type: metrics.Gauge,
		Help: "1 while the guest has taken its lease or was seen using the pod's address, 0 otherwise; at layer 2 always 0.",
	}, one(func(o *observation) float64 { return truth(o.state.Lease.InUse()) })},
	{metrics.Metric{
		Name: "podnic_lease_state", Type: metrics.Gauge, Labels: []string{"state"},
		Help: "1 for the state that the guest's lease is in (none, offered, bound or expired), 0 for the others.",
	}, leaseStates},
	{metrics.Metric{
		Name: "podnic_lease_since_timestamp_seconds", Type: metrics.Gauge, Unit: "seconds since 1970",
		Help: "When the lease entered its state; absent if it never had one.",
	}, known(func(o *observation) (float64, bool) { return seconds(o.state.Lease.Since) })},
	{metrics.Metric{
		Name: "podnic_lease_expiry_timestamp_seconds", Type: metrics.Gauge, Unit: "seconds since 1970",
		Help: "When the lease ends unless it is renewed, or when it ended; absent without a lease and with an infinite one.",
	}, known(func(o *observation) (float64, bool) { return seconds(o.state.Lease.Expires) })},
	{metrics.Metric{
		Name: "podnic_time_to_ready_seconds", Type: metrics.Gauge, Unit: "seconds",
		Help: "From the start of podnic to the guest's lease, or to its first use of the address; absent until then.",
	}, known(timeToReady)},
	{metrics.Metric{
		Name: "podnic_timeline_seconds", Type: metrics.Gauge, Unit: "seconds", Labels: []string{"event"},
		Help: "From the start of podnic to each event of the timeline that podnic status shows; absent until it happens.",
	}, timelineSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_messages_total", Type: metrics.Counter, Labels: []string{"type", "outcome"},
		Help: "The guest's DHCP messages that were understood, by type and by what came of them: offer, ack, nak or bootp " +
			"was sent, noted (it wants no answer), or dropped.",
	}, exchangeSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_dropped_total", Type: metrics.Counter, Labels: []string{"reason"},
		Help: "What the server read and did not answer, by reason (docs/dhcp.md); what the kernel's filter keeps away is not in it.",
	}, dropSamples},
	{metrics.Metric{
		Name: "podnic_dhcp_queue_drops_total", Type: metrics.Counter,
		Help: "Frames that the kernel dropped because the server's queue was full; always 0 in UDP mode, where it is not known.",
	}, one(func(o *observation) float64 { return float64(o.stats.QueueDrops) })},
	{metrics.Metric{
		Name: "podnic_dhcp_options_left_out_total", Type: metrics.Counter,
		Help: "Options that did not fit into a reply.",
	}, one(func(o *observation) float64 { return float64(o.stats.OptionsLeftOut) })},
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
		Name: "podnic_repairs_total", Type: metrics.Counter,
		Help: "How often prepare found the wiring not as it should be, and mended it, since the interface was wired; absent where " +
			"the record cannot be read.",
	}, known(func(o *observation) (float64, bool) { return float64(o.repairs), o.repairs >= 0 })},
	{metrics.Metric{
		Name: "podnic_warnings", Type: metrics.Gauge,
		Help: "Warnings that stand now; podnic status has their texts.",
	}, one(func(o *observation) float64 { return float64(len(o.state.Warnings)) })},
	{metrics.Metric{
		Name: "process_resident_memory_bytes", Type: metrics.Gauge, Unit: "bytes",
		Help: "Resident memory of this process.",
	}, known(func(o *observation) (float64, bool) { return o.process.resident, o.process.resident > 0 })},
	{metrics.Metric{
		Name: "process_cpu_seconds_total", Type: metrics.Counter, Unit: "seconds",
		Help: "Processor time of this process, its own and the kernel's for it.",
	}, one(func(o *observation) float64 { return o.process.cpu })},
}

func leaseStates(o *observation) []metrics.Sample {
	state := o.state.Lease.State
	if state == "" {
		state = dhcp.LeaseNone
	}
	var all []metrics.Sample
	for _, s := range []string{dhcp.LeaseNone, dhcp.LeaseOffered, dhcp.LeaseBound, dhcp.LeaseExpired} {
		all = append(all, metrics.Sample{Labels: []string{s}, Value: truth(s == state)})
	}
	return all
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
	for _, e := range dhcp.Exchanges() {
		labels := []string{string(e.Message), string(e.Outcome)}
		all = append(all, metrics.Sample{Labels: labels, Value: float64(o.stats.Exchanges[e])})
	}
	return all
}

func dropSamples(o *observation) []metrics.Sample {
	var all []metrics.Sample
	for _, reason := range dhcp.DropReasons() {
		all = append(all, metrics.Sample{Labels: []string{reason}, Value: float64(o.stats.Dropped[reason])})
	}
	return all
}

func errorSamples(o *observation) []metrics.Sample {
	return []metrics.Sample{
		{Labels: []string{"send"}, Value: float64(o.stats.SendErrors)},
		{Labels: []string{"socket"}, Value: float64(o.stats.SocketErrors)},
		{Labels: []string{"panic"}, Value: float64(o.stats.Panics)},
	}
}

// processUse is what this process has used.
type processUse struct {
	resident float64 // bytes; 0 where /proc does not say
	cpu      float64 // seconds
}

func readProcessUse() processUse {
	var use processUse
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
