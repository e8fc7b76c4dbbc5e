// Package metrics hands numbers to Prometheus: the text format, the address to serve it at, and a server for it.
//
// It is small on purpose. A process serves one guest and has a few dozen numbers, all of which it counts anyway; the
// Prometheus library would make it larger by more than it is (docs/adr/0018-trace-and-metrics.md).
package metrics

import (
	"strconv"
	"strings"
)

// Metric is what a family of time series means.
type Metric struct {
	Name string
	// Type is counter or gauge.
	Type string
	// Unit of the value; empty where it is a number of things.
	Unit   string
	Labels []string
	Help   string
}

// Types of metrics.
const (
	Counter = "counter"
	Gauge   = "gauge"
)

// Sample is one value, and its labels' values in the order of Metric.Labels.
type Sample struct {
	Labels []string
	Value  float64
}

// Family is a metric with its values of now.
type Family struct {
	Metric
	Samples []Sample
}

// ContentType is that of Text.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// Text writes families in Prometheus' text format 0.0.4. A family without samples is left out.
func Text(families []Family) []byte {
	b := make([]byte, 0, 8<<10)
	for _, f := range families {
		if len(f.Samples) == 0 {
			continue
		}
		b = append(b, "# HELP "+f.Name+" "+escapeHelp.Replace(f.Help)+"\n# TYPE "+f.Name+" "+f.Type+"\n"...)
		for _, s := range f.Samples {
			b = append(append(b, f.Name...), labels(f.Labels, s.Labels)...)
			b = strconv.AppendFloat(append(b, ' '), s.Value, 'g', -1, 64)
			b = append(b, '\n')
		}
	}
	return b
}

func labels(names, values []string) string {
	if len(names) == 0 {
		return ""
	}
	pairs := make([]string, len(names))
	for i, name := range names {
		pairs[i] = name + `="` + escapeLabel.Replace(values[i]) + `"`
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
