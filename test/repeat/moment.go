// Package repeat lets tests that kill do so at the moment at which they failed once.
package repeat

import (
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Variable in the environment has the one moment that a test is to choose, as it was printed.
const Variable = "PODNIC_MOMENT"

// Moment is when something is killed.
type Moment struct {
	// Operation is what is killed, in words of the test, without a blank or an @.
	Operation string
	// Step is the number of the step before which it is; where it is negative, After is how long after its beginning.
	Step  int
	After time.Duration
}

// Before is the moment before a step.
func Before(operation string, step int) Moment { return Moment{Operation: operation, Step: step} }

// After is the moment at which a time has passed.
func After(operation string, after time.Duration) Moment {
	return Moment{Operation: operation, Step: -1, After: after}
}

func (m Moment) String() string {
	if m.Step >= 0 {
		return fmt.Sprintf("%s@%d", m.Operation, m.Step)
	}
	return fmt.Sprintf("%s@%s", m.Operation, m.After)
}

func parse(text string) (Moment, error) {
	operation, at, _ := strings.Cut(text, "@")
	if step, err := strconv.Atoi(at); err == nil {
		return Before(operation, step), nil
	}
	after, err := time.ParseDuration(at)
	if err != nil {
		return Moment{}, fmt.Errorf("%s=%s: want OPERATION@STEP or OPERATION@TIME: %w", Variable, text, err)
	}
	return After(operation, after), nil
}

// Wanted says that there is but one moment, which may not be one of the test's own.
func Wanted() bool { return os.Getenv(Variable) != "" }

// Moments yields those that a test has chosen, or the one that is wanted. It ends with the first at which the test fails, and
// says how to have that one again.
func Moments(t testing.TB, chosen iter.Seq[Moment]) iter.Seq[Moment] {
	return func(yield func(Moment) bool) {
		if text := os.Getenv(Variable); text != "" {
			wanted, err := parse(text)
			if err != nil {
				t.Fatal(err)
			}
			chosen = func(yield func(Moment) bool) { yield(wanted) }
		}
		at := func(m Moment) (more bool) {
			defer func() { // also where the test ends in the middle
				if t.Failed() {
					t.Logf("killed at %s: go test -run '^%s$' with %s=%s repeats it", m, t.Name(), Variable, m)
				}
			}()
			return yield(m) && !t.Failed()
		}
		for m := range chosen {
			if !at(m) {
				return
			}
		}
	}
}
