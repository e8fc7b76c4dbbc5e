package plan

import (
	"testing"

	"pgregory.net/rapid"
)

// TestDeviationsAreWhereTheDiffHasSteps: what status marks is what prepare would mend, no more and no less.
func TestDeviationsAreWhereTheDiffHasSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := optionsFor(t)
		original := podOf(t, "pod")
		wanted := Wired(original, o)
		current := stateOf(t, "now", original, o)
		steps, deviations := Diff(bridgeBinding{}, current, wanted), Deviations(bridgeBinding{}, current, wanted)
		if (len(steps) == 0) != (len(deviations) == 0) {
			t.Fatalf("steps %v, deviations %v", steps, deviations)
		}
	})
}
