package agent

import (
	"os"
	"testing"
)

// TestStartTimeIsOfTheProcess whatever its program is called.
func TestStartTimeIsOfTheProcess(t *testing.T) {
	p, err := thisProcess()
	if err != nil || p.ID != os.Getpid() || p.Start == 0 || p.Detached {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := startTime(1 << 30); err == nil {
		t.Error("a process that cannot be has a start time")
	}
}
