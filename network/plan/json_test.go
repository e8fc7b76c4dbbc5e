package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestRecordsAndReportsHaveNoFieldsOfThePlanner marshals what is written to disk and printed. A field that is exported for
// the packages beside this one alone must not get there: an older podnic reads it, and people do.
func TestRecordsAndReportsHaveNoFieldsOfThePlanner(t *testing.T) {
	o, err := Options{Interface: "eth0"}.Normal()
	if err != nil {
		t.Fatal(err)
	}
	original := &Snapshot{Links: []Link{{Role: NIC, Name: "eth0", Index: 2, Kind: KindVeth, MTU: 1500, Up: true}}, Addresses: podAddresses[:1]}
	wired := Wired(original, o)
	names := ManagedTapNames("eth0")
	for _, test := range []struct {
		value any
		keys  string
	}{
		{wired.Filter, "rules table"},
		{names, "bridge interface nic tap"},
		{Diff(bridgeBinding{}, original, wired)[0], "detail do object"},
		{wired, "addresses filter links"},
	} {
		b, err := json.Marshal(test.value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		if keys := strings.Join(slices.Sorted(maps.Keys(fields)), " "); keys != test.keys {
			t.Errorf("%T has the fields %s, not %s", test.value, keys, test.keys)
		}
	}
}
