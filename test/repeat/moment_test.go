package repeat

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// failing is a test that fails without failing this one.
type failing struct {
	testing.TB
	failed bool
	said   string
}

func (f *failing) Errorf(string, ...any)        { f.failed = true }
func (f *failing) Failed() bool                 { return f.failed }
func (f *failing) Logf(format string, a ...any) { f.said += fmt.Sprintf(format, a...) }
func (f *failing) Fatalf(string, ...any)        { f.failed = true; runtime.Goexit() }

// TestMomentIsPrintedAndTakenBack fails at each kind of moment, and has that one again.
func TestMomentIsPrintedAndTakenBack(t *testing.T) {
	moments := []Moment{Before("prepare", 0), Before("restore,prepare", 17), After("hook", 1250*time.Microsecond), After("hook", 0)}
	run := func(t *failing, at func(Moment)) (seen []Moment) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for m := range Moments(t, slices.Values(moments)) {
				seen = append(seen, m)
				at(m)
			}
		}()
		<-done
		return seen
	}
	for i, bad := range moments {
		for name, fail := range map[string]func(*failing){
			"goes on": func(f *failing) { f.Errorf("") }, "ends": func(f *failing) { f.Fatalf("") },
		} {
			t.Setenv(Variable, "")
			f := &failing{TB: t}
			seen := run(f, func(m Moment) {
				if m == bad {
					fail(f)
				}
			})
			if !slices.Equal(seen, moments[:i+1]) {
				t.Errorf("%s, a test that %s: it went through %v", bad, name, seen)
			}
			_, wanted, _ := strings.Cut(f.said, Variable+"=")
			wanted, _, _ = strings.Cut(wanted, " ")
			t.Setenv(Variable, wanted)
			if seen := run(&failing{TB: t}, func(Moment) {}); !Wanted() || !slices.Equal(seen, []Moment{bad}) {
				t.Errorf("%q has it go through %v", wanted, seen)
			}
		}
	}
}
