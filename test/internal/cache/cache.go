// Package cache finds the directory where scripts/setup and the Makefile put what tests need and a checkout does not
// hold: the guest's kernel, the CNI plugins, what was found out about this machine.
package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir is $PODNIC_CACHE, or .cache at the top of the module that the working directory belongs to. It need not exist.
func Dir() (string, error) {
	if dir := os.Getenv("PODNIC_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		switch _, err := os.Stat(filepath.Join(dir, "go.mod")); {
		case err == nil:
			return filepath.Join(dir, ".cache"), nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		case dir == filepath.Dir(dir):
			return "", fmt.Errorf("no go.mod in %s or above it: run in a checkout or set PODNIC_CACHE", start)
		}
	}
}

// Need is the path of something in the cache, or an error that says which command puts it there.
func Need(remedy string, elem ...string) (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(append([]string{dir}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w (run `%s`)", err, remedy)
	}
	return path, nil
}
