package probe

import (
	"errors"
	"os"
	"testing"

	"github.com/podnic/podnic/network/plan"
)

func TestAFamilyThatThereIsNotIsRefused(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("makes a network namespace, and so needs root and more than unit tests wanted")
	}
	err := checkFamily(here{}, 99)
	if _, refused := errors.AsType[*plan.RefusalError](err); !refused {
		t.Error(err)
	}
}
