// Package beside finds the programs that podnic is split into: each is installed where podnic is.
package beside

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Locate looks for a program of podnic's beside the running one, where programs keep helpers of theirs, and in the PATH.
func Locate(name string) (string, error) {
	executable, err := os.Executable() // on Linux, with symbolic links resolved
	if err != nil {
		return "", fmt.Errorf("find out where podnic is: %w", err)
	}
	return LocateFrom(executable, name)
}

// LocateFrom is Locate for a running program of that path.
func LocateFrom(executable, name string) (string, error) {
	dir := filepath.Dir(executable)
	paths := []string{
		filepath.Join(dir, name),
		filepath.Join(dir, "..", "libexec", "podnic", name),
	}
	for _, path := range paths {
		// With a slash in it, LookPath looks nowhere else.
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("there is no program %s, nor %s in the PATH", strings.Join(paths, " or "), name)
}
