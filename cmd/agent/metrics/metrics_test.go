package metrics

import (
	"bytes"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var families = []Family{
	{Metric{Name: "a_total", Type: Counter, Labels: []string{"kind", "why"}, Help: "A back\\slash,\nand a second line."}, []Sample{
		{Labels: []string{"x", "a \"quote\", a back\\slash,\nand a second line"}, Value: 3},
		{Labels: []string{"y", ""}, Value: 1e18},
	}},
	{Metric{Name: "nothing", Type: Gauge, Help: "No samples."}, nil},
	{Metric{Name: "b_seconds", Type: Gauge, Unit: "seconds", Help: "B."}, []Sample{{Value: 0.0625}}},
}

func TestTextIsWhatPrometheusReads(t *testing.T) {
	const want = `# HELP a_total A back\\slash,\nand a second line.
# TYPE a_total counter
a_total{kind="x",why="a \"quote\", a back\\slash,\nand a second line"} 3
a_total{kind="y",why=""} 1e+18
# HELP b_seconds B.
# TYPE b_seconds gauge
b_seconds 0.0625
`
	text := Text(families)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	read, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	a, b := read["a_total"], read["b_seconds"]
	if len(read) != 2 || a.GetHelp() != families[0].Help || len(a.GetMetric()) != 2 || b.GetMetric()[0].GetGauge().GetValue() != 0.0625 {
		t.Fatalf("read back: %v", read)
	}
	if why := a.GetMetric()[0].GetLabel()[1].GetValue(); why != families[0].Samples[0].Labels[1] {
		t.Errorf("the label is %q", why)
	}
	if v := a.GetMetric()[1].GetCounter().GetValue(); math.Abs(v-1e18) > 0 {
		t.Errorf("the value is %v", v)
	}
}
