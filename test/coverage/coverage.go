// Package coverage makes the programs of podnic count what runs of them, when they are built with -cover and the tag
// coverage. Each writes its counters at its end into a directory that it was linked with, since most have none of the
// test's environment: libvirt starts a hook with one of its own. Everybody can write the directory, as programs end as
// other users than they began as; what confines a program leaves it this one (cmd/agent/confine).
package coverage

import (
	"os"

	"golang.org/x/sys/unix"
)

// directory is where the counters go.
var directory string

// variable names the directory to the Go runtime, which reads it before the first init function of the main package, and
// after all others (cmd/compile/internal/coverage).
const variable = "GOCOVERDIR"

var stderr = os.Stderr

// Without the directory, as in a mount namespace that has others, nothing is counted. The runtime would say so on standard
// error, which tests compare.
func init() {
	if unix.Access(directory, unix.W_OK|unix.X_OK) == nil {
		os.Setenv(variable, directory)
		return
	}
	os.Unsetenv(variable)
	os.Stderr = nil
}

// Started is called from an init function of the main package.
func Started() { os.Stderr = stderr }
