package pod

import (
	"testing"
	"time"
)

func TestStateDiffAllowsLifetimesTwoSeconds(t *testing.T) {
	began := time.Now()
	state := func(after time.Duration, lifetime string) State {
		return State{Text: "2: eth0 inet 10.244.1.2/24 dynamic valid_lft " + lifetime + " preferred_lft forever", At: began.Add(after)}
	}
	before := state(0, "3600sec")
	for _, test := range []struct {
		later State
		same  bool
	}{
		{state(0, "3600sec"), true},
		{state(30*time.Second, "3570sec"), true},
		{state(30*time.Second, "3568sec"), true},
		{state(30*time.Second, "3567sec"), false},
		{state(30*time.Second, "3600sec"), false},
		{state(30*time.Second, "forever"), false},
	} {
		if diff := before.Diff(test.later); (diff == "") != test.same {
			t.Errorf("%s, %v later: same %v, want %v:\n%s", test.later.Text, test.later.At.Sub(began), !test.same, test.same, diff)
		}
	}
}
