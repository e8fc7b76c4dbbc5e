package plan

import "testing"

// TestLinkThatStandsOnAnotherIsNotToldToMerge: a macvlan merges if its parent does, and the kernel takes the wish and does
// nothing, so that restore would never be done.
func TestLinkThatStandsOnAnotherIsNotToldToMerge(t *testing.T) {
	for _, c := range []struct {
		parent     int
		have, want bool
		set        bool
	}{
		{0, true, false, true}, {0, false, true, true}, {0, true, true, false},
		{7, true, false, true}, {7, false, true, false}, {7, false, false, false},
	} {
		have, want := Link{Role: NIC, LRO: c.have, ParentIndex: c.parent}, Link{Role: NIC, LRO: c.want}
		if set := SettingLRO.differ(&have, &want); set != c.set {
			t.Errorf("%+v: %v", c, set)
		}
	}
}
