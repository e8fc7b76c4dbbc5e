package guest

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// UserMode is a machine whose kernel is a process, which the image's must be ([UserKernel]). It ends with status 0 when it is
// powered off, and at once by SIGTERM.
type UserMode struct {
	Image *Image
	// Memory in MiB; zero is 64.
	Memory int
	// Directory is for files of its own.
	Directory string
	// Tap is its network card, which it finds in its network namespace, and MAC the card's. Empty: it has none.
	Tap, MAC string
	// Serial are the two files that its consoles go to, /dev/console and /dev/ttyS1. None: the first is its standard output.
	Serial []string
}

// Refused tells, by what was on its console, whether the host refused it its first process: now and then that happens, and it
// panics before anything has run in it.
func Refused(console string) bool {
	return strings.Contains(console, "can't fork") && !strings.Contains(console, ": up")
}

// Args is its command line.
func (u UserMode) Args() []string {
	args := []string{
		u.Image.Kernel, "mem=" + strconv.Itoa(max(u.Memory, 64)) + "M", "initrd=" + u.Image.Initrd, "uml_dir=" + u.Directory,
		"quiet", "panic=-1", "con=null", "ssl=null", "con0=null,fd:1",
	}
	if u.Tap != "" {
		args = append(args, fmt.Sprintf("eth0=tuntap,%s,%s", u.Tap, u.MAC))
	}
	if len(u.Serial) == 2 {
		args = append(args, "ssl1=null,fd:3")
	}
	return args
}

// Command runs it.
func (u UserMode) Command(ctx context.Context) *exec.Cmd {
	args := u.Args()
	if len(u.Serial) == 2 {
		// A channel is a descriptor that is open already (arch/um/drivers/fd.c).
		args = append([]string{"sh", "-c", `one=$1 two=$2; shift 2; exec "$@" >"$one" 3>"$two"`, "sh", u.Serial[0], u.Serial[1]}, args...)
	}
	return exec.CommandContext(ctx, args[0], args[1:]...)
}
