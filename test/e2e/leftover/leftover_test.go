package leftover

import (
	"context"
	"errors"
	"testing"
)

func TestWaitTellsWhatIsTooMuch(t *testing.T) {
	const before = "link of a pod\nlink of a pod\nprocess podnic\n"
	away := errors.New("no answer")
	for _, test := range []struct {
		name  string
		looks []any // in turn; a string is seen, an error is why nothing is
		want  string
	}{
		{"as before", []any{before}, ""},
		{"something goes late", []any{before + "table 7 podnic-eth0\n", before}, ""},
		{"another's is gone", []any{"link of a pod\n"}, ""},
		{"nothing is there", []any{""}, ""},
		{"something is left", []any{before + "link of a pod\n"}, "on the node:\nlink of a pod"},
		{"a look fails and the next one does not", []any{before + "process podnic\n", away, before}, ""},
		{"the last looks fail", []any{before + "process podnic\n", away, away},
			"on the node, when it was last seen:\nprocess podnic\nand later looks failed: no answer"},
		{"all looks fail", []any{away}, "the node was never seen again: no answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			look := func(context.Context) (string, error) {
				next := test.looks[0]
				test.looks = test.looks[1:]
				if err, ok := next.(error); ok {
					return "", err
				}
				return next.(string), nil
			}
			inTurn := func(ctx context.Context, ask func(context.Context) (bool, error)) error {
				for len(test.looks) > 0 {
					if done, err := ask(ctx); done || err != nil {
						return err
					}
				}
				return context.DeadlineExceeded
			}
			got := ""
			if err := Wait(t.Context(), before, look, inTurn); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("error %q, want %q", got, test.want)
			}
		})
	}
}
