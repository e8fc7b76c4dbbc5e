package rtnl

import (
	"errors"
	"testing"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// TestRefusedRequestSaysWhatTheKernelLacks takes the requests of a redirect's filter and refuses each, as kernels do: an old
// one the hook (EOPNOTSUPP), one without a module the expression or the chain's type (ENOENT).
func TestRefusedRequestSaysWhatTheKernelLacks(t *testing.T) {
	nic := plan.Link{Role: plan.NIC, Index: 2, Name: "eth0", MAC: [6]byte{2}, Up: true}
	filter := plan.RedirectFilter(&plan.Snapshot{Links: []plan.Link{nic}},
		plan.Options{Interface: "eth0", Tap: "tap0", Binding: plan.BindingRedirect}, plan.RedirectFacts{Mark: 1})
	var asked []string
	transaction, err := transactionOf(filter, true, func(name string) (int, error) {
		asked = append(asked, name)
		return 7, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 {
		t.Errorf("the indexes asked for are of %v", asked)
	}
	lacking := make(map[error]int)
	for i := range transaction.requests {
		number := i + 1 // the first of the batch begins it
		for _, errno := range []error{unix.ENOENT, unix.EOPNOTSUPP} {
			err := transaction.refused(number, errno)
			if !errors.Is(err, errno) {
				t.Errorf("request %d: %v has become %v", number, errno, err)
			}
			for _, lack := range []error{ErrNoEgress, ErrNoForward} {
				if errors.Is(err, lack) {
					lacking[lack]++
				}
			}
		}
		if err := transaction.refused(number, unix.EPERM); err != error(unix.EPERM) {
			t.Errorf("request %d: a lack of privilege has become %v", number, err)
		}
	}
	// Twice each: the egress chain; two ingress chains, and the rule of each direction.
	if lacking[ErrNoEgress] != 2 || lacking[ErrNoForward] != 2*4 {
		t.Errorf("%d lack egress hooks, %d forwarding", lacking[ErrNoEgress], lacking[ErrNoForward])
	}
	for _, number := range []int{0, len(transaction.requests) + 1} {
		if err := transaction.refused(number, unix.ENOENT); err != error(unix.ENOENT) {
			t.Errorf("request %d, which is not ours: %v", number, err)
		}
	}
}
