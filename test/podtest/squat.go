package podtest

import (
	"os/exec"
	"sync"
	"testing"
)

// Stranger is the beginning of a shell command that runs as a process of the pod without any capability and with no way to
// one.
const Stranger = "setpriv --reuid 107 --regid 107 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all --ambient-caps -all -- "

// Hold is what a squatter runs while it holds something.
const Hold = `sh -c 'echo held; exec cat'`

// Squat runs a shell command in the network namespace at a path and returns when it says that it holds what it squats. It goes
// on until its input ends: when it is told to, or with the test.
func Squat(t testing.TB, namespace, command string) (end func()) {
	t.Helper()
	cmd := exec.Command("nsenter", "--net="+namespace, "--", "sh", "-c", "exec "+command)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := Start(t, "a squatter", cmd)
	end = sync.OnceFunc(func() {
		input.Close()
		<-p.Done
	})
	t.Cleanup(end)
	p.Says("held")
	return end
}
