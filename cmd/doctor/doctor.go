// Package doctor tells what a machine or a pod lacks for podnic, and how to mend it, in the spirit of kubeadm's preflight.
// It promises to change nothing, to end in bounded time, and to say where it could not look.
package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/network"
)

// Status is what a check found.
type Status string

const (
	OK      Status = "ok"
	Warn    Status = "warn"    // something works less well, or only some of it
	Fail    Status = "fail"    // something will not work
	Unknown Status = "unknown" // this process could not look
)

// Finding is what one check found: why it says so, and, unless all is well, what to do.
type Finding struct {
	Check string `json:"check"`
	// Interface is whose it is, where the pod has several that are looked at.
	Interface string `json:"interface,omitempty"`
	Status    Status `json:"status"`
	Reason    string `json:"reason"`
	Remedy    string `json:"remedy,omitempty"`
}

// Report is what `podnic doctor -o json` prints. Fields are added, never renamed.
type Report struct {
	APIVersion string    `json:"apiVersion"` // podnic/v1
	OK         bool      `json:"ok"`         // nothing failed
	Findings   []Finding `json:"findings"`
}

// Examination says where to look and for what.
type Examination struct {
	network.Request
	Service offering.Service
	// URI is libvirt's; empty is its default. ConnectTimeout bounds the wait for it.
	URI            string
	ConnectTimeout time.Duration
	// Only, if it names checks, leaves out all others. A failure of a check in Ignore is a warning. Both have some of Names.
	Only, Ignore []string
	// ProbeKVM is a command that calls [ProbeKVM] and prints what it says: a process that runs a virtual machine may hang.
	ProbeKVM []string
	// Root is where /dev/kvm and /etc/libvirt are looked for. Tests have one of their own.
	Root string
}

// Check looks at everything.
func Check(o Examination) (*Report, error) {
	v, err := begin(o)
	if err != nil {
		return nil, err
	}
	defer v.close()
	return v.examine(), nil
}

func (v *visit) examine() *Report {
	r := &Report{APIVersion: "podnic/v1", OK: true}
	for _, c := range checks {
		if len(v.Only) > 0 && !slices.Contains(v.Only, c.name) {
			continue
		}
		for _, f := range v.findings(c) {
			if f.Status == Fail && slices.Contains(v.Ignore, c.name) {
				f.Status = Warn
			}
			r.OK = r.OK && f.Status != Fail
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// findings are those of a check: one, or where it is about an interface one for each.
func (v *visit) findings(c check) []Finding {
	if c.about != anInterface || len(v.all) == 0 {
		return []Finding{v.run(c)}
	}
	var all []Finding
	for i := range v.all {
		v.inspected = v.all[i]
		f := v.run(c)
		if len(v.all)+len(v.lost) > 1 {
			f.Interface = v.inspected.seen.Names.Interface
		}
		all = append(all, f)
	}
	v.inspected = v.all[0]
	if c.name == "wiring" {
		for _, l := range v.lost {
			o := refusal(Fail, l.Reason)
			all = append(all, Finding{Check: c.name, Interface: l.Names.Interface, Status: o.status, Reason: o.reason, Remedy: o.remedy})
		}
	}
	return all
}

// run runs one check, where it can be run.
func (v *visit) run(c check) Finding {
	f := Finding{Check: c.name}
	switch {
	case c.about != theMachine && v.initial:
		f.Status, f.Reason, f.Remedy = Unknown, "this is the machine's own network namespace, which is no pod's", "run it in a pod, or name one with --netns"
	case c.about != theMachine && v.seen == nil && c.name != "pod":
		f.Status, f.Reason, f.Remedy = Unknown, "the pod's interface is not known", "see what the check \"pod\" says"
	default:
		o := c.run(v)
		f.Status, f.Reason, f.Remedy = o.status, o.reason, o.remedy
		if f.Remedy == "" && f.Status != OK {
			f.Remedy = c.remedy
		}
	}
	return f
}

// Names are what the checks are called.
func Names() []string {
	names := make([]string, len(checks))
	for i, c := range checks {
		names[i] = c.name
	}
	return names
}

// visit is one inspection of a namespace, and all that several checks need.
type visit struct {
	Examination
	ns        *network.Namespace
	initial   bool
	all       []inspected
	inspected       // the interface that is checked now; empty when there is none
	unseen    error // why
	lost      []network.Lost
	report    *status.Report
	libvirt   libvirt
}

// inspected is what there is to know of one interface.
type inspected struct {
	seen *network.Inspection
	r    status.InterfaceReport
}

func begin(o Examination) (*visit, error) {
	ns, err := network.OpenNamespace(o.Namespace)
	if err != nil {
		return nil, err
	}
	v := &visit{Examination: o, ns: ns}
	// Where it cannot be told, Inspect refuses and says why.
	v.initial, _ = ns.Initial()
	v.initial = v.initial && !o.AllowHostNamespace
	if v.initial {
		return v, nil
	}
	seen, lost, err := network.InspectEach(status.ReadOnly(o.Request))
	v.lost = lost
	if err != nil {
		v.unseen = err
		return v, nil
	}
	if v.report, err = status.NewReport(o.Request, seen, o.Service); err != nil {
		v.close()
		return nil, err
	}
	v.report.AddLost(lost)
	for i := range seen {
		v.all = append(v.all, inspected{seen[i], v.report.Interfaces[i]})
	}
	v.inspected = v.all[0]
	return v, nil
}

func (v *visit) close() {
	v.libvirt.close()
	v.ns.Close()
}

// outcome is what a check found. Where the remedy is empty, it is the check's own.
type outcome struct {
	status         Status
	reason, remedy string
}

func ok(format string, args ...any) outcome { return outcome{OK, fmt.Sprintf(format, args...), ""} }
func warn(format string, args ...any) outcome {
	return outcome{Warn, fmt.Sprintf(format, args...), ""}
}
func fail(format string, args ...any) outcome {
	return outcome{Fail, fmt.Sprintf(format, args...), ""}
}
func unknown(format string, args ...any) outcome {
	return outcome{Unknown, fmt.Sprintf(format, args...), ""}
}

// but is the outcome with a remedy of its own.
func (o outcome) but(format string, args ...any) outcome {
	o.remedy = fmt.Sprintf(format, args...)
	return o
}

// refusal takes an error of package network apart, whose refusals say first what is wrong and then, after the last colon,
// what to do.
func refusal(status Status, err error) outcome {
	if !network.IsRefusal(err) {
		return outcome{status, err.Error(), ""}
	}
	return sentence(status, err.Error())
}

// sentence takes one apart whose last clause is the remedy.
func sentence(status Status, text string) outcome {
	if i := strings.LastIndex(text, ": "); i > 0 {
		return outcome{status, text[:i], text[i+2:]}
	}
	return outcome{status, text, ""}
}
