package statefile

import (
	"os"
	"testing"
)

// TestStartTimeIsOfTheProcess whatever its program is called.
func TestStartTimeIsOfTheProcess(t *testing.T) {
	p, err := ThisProcess()
	if err != nil || p.ID != os.Getpid() || p.Start == 0 || p.Detached {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := StartTime(1 << 30); err == nil {
		t.Error("a process that cannot be has a start time")
	}
}
