package draw

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/status"
)

// passes are the events of a start in the order in which it passes them: how they are called here, and what the time
// before each of them goes to (in at most 30 columns, which is what a line has left).
var passes = []struct{ event, name, takes string }{
	{statefile.EventStarted, "started", ""},
	{statefile.EventDiscovered, "discovered", "finding the pod's interface"},
	{statefile.EventWired, "wired", "the kernel's changes"},
	{statefile.EventServing, "serving", "until the guest can be heard"},
	{statefile.EventDomainStart, "domain start", "handing it to libvirt"},
	{statefile.EventDomainRunning, "domain running", "libvirt and the emulator"},
	{statefile.EventCommand, "command", "starting the command"},
	{statefile.EventFirstFrame, "first frame", "the guest's firmware, kernel"},
	{statefile.EventDiscover, "DISCOVER", "until its DHCP client asks"},
	{statefile.EventLease, "lease", "until it takes the offer"},
}

// pass is one row of the timeline.
type pass struct {
	statefile.Moment
	name, takes string
	gap         time.Duration // since the event before
}

// passed are the events of a timeline in the order of time, each with the time since the one before.
func passed(t statefile.Timeline) []pass {
	var rows []pass
	for _, m := range t {
		row := pass{Moment: m, name: m.Event}
		for _, p := range passes {
			if p.event == m.Event {
				row.name, row.takes = p.name, p.takes
			}
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b pass) int { return a.At.Compare(b.At) })
	for i := 1; i < len(rows); i++ {
		rows[i].gap = rows[i].At.Sub(rows[i-1].At)
	}
	return rows
}

// timeline draws when each event was, how long it took since the one before, and what the longest of these went to. While
// the guest has no lease, it says what podnic waits for, and how long it has waited.
func (d *drawing) timeline() {
	rows := passed(d.r.Timeline)
	if len(rows) == 0 {
		return
	}
	longest := 0
	for i := range rows {
		if rows[i].gap > rows[longest].gap {
			longest = i
		}
	}
	d.line("")
	d.put(quiet, fmt.Sprintf("  %-15s %10s %10s", "timeline", "at", "gap"))
	for i, row := range rows {
		line := fmt.Sprintf("  %-15s %10s", row.name, span(row.At.Sub(rows[0].At)))
		if i == 0 {
			d.line("%s", line)
			continue
		}
		line += fmt.Sprintf(" %10s", span(row.gap))
		if i == longest {
			d.put(strong, line+"  "+strings.TrimSpace("longest: "+row.takes))
			continue
		}
		d.line("%s", line)
	}
	d.guestTime(rows)
	d.waiting(rows)
}

// guestTime answers why the guest took so long: from the first event by which it could have begun to its lease.
func (d *drawing) guestTime(rows []pass) {
	lease, ok := find(rows, statefile.EventLease)
	if !ok {
		return
	}
	start, from := rows[0], "podnic's start"
	if domain, ok := find(rows, statefile.EventDomainStart); ok {
		start, from = domain, "the domain's start"
	} else if command, ok := find(rows, statefile.EventCommand); ok {
		start, from = command, "the command's start"
	} else if serving, ok := find(rows, statefile.EventServing); ok {
		start, from = serving, "the server's start"
	}
	total := lease.At.Sub(start.At)
	if total < 0 {
		return // the lease is of an earlier server
	}
	var parts []string
	before := start.At
	for _, event := range []string{statefile.EventDomainRunning, statefile.EventFirstFrame, statefile.EventDiscover, statefile.EventLease} {
		row, ok := find(rows, event)
		if !ok || row.At.Before(before) {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s to the %s", span(row.At.Sub(before)), map[string]string{
			statefile.EventDomainRunning: "running domain", statefile.EventFirstFrame: "guest's first frame",
			statefile.EventDiscover: "first DISCOVER", statefile.EventLease: "lease (ACK)",
		}[event]))
		before = row.At
	}
	d.wrap(plain, "  ", fmt.Sprintf("From %s to the lease %s: %s.", from, span(total), strings.Join(parts, ", ")))
}

// waiting says what has not happened yet.
func (d *drawing) waiting(rows []pass) {
	if d.r.Phase != status.PhaseServing || d.r.Offer == nil && d.r.Offer6 == nil {
		return
	}
	last := rows[len(rows)-1]
	what := "the guest's first frame"
	switch last.Event {
	case statefile.EventFirstFrame:
		what = "the guest's first DISCOVER"
	case statefile.EventDiscover:
		what = "the guest to take what it was offered"
	}
	d.wrap(plain, "  ", fmt.Sprintf("Waiting for %s: %s since %q.", what, span(d.at.Sub(last.At)), last.name))
}

func find(rows []pass, event string) (pass, bool) {
	for _, row := range rows {
		if row.Event == event {
			return row, true
		}
	}
	return pass{}, false
}

// span writes a time as a person would: 42.6 ms, 4.71 s, 2m10s.
func span(t time.Duration) string {
	switch {
	case t < time.Second:
		return fmt.Sprintf("%.1f ms", float64(t.Microseconds())/1000)
	case t < 100*time.Second:
		return fmt.Sprintf("%.2f s", t.Seconds())
	}
	return t.Round(time.Second).String()
}
