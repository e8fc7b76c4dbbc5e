// Image gathers what the image podnic-test holds: the guest of the tests, a busybox whose commands the suite's pods run, and
// the suite's program for the node.
//
// Usage: image DIRECTORY
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/podnic/podnic/test/guest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: image DIRECTORY")
		os.Exit(2)
	}
	if err := gather(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func gather(dir string) error {
	for _, name := range []string{"bin", "guest"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	image, err := guest.Build(filepath.Join(dir, "guest"))
	if err != nil {
		return err
	}
	if err := install(image.Kernel, filepath.Join(dir, "guest", "vmlinuz"), 0o644); err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := install(busybox, filepath.Join(dir, "bin", "busybox"), 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "bin", "node"), "./test/e2e/node")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	return build.Run()
}

// install copies a file.
func install(from, to string, mode os.FileMode) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if _, err = io.Copy(target, source); err != nil {
		return err
	}
	return target.Chmod(mode)
}
