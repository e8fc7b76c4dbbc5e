package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one of the node's.
type process struct {
	pid     int
	program string // the file name of its executable; empty for a thread of the kernel
	inner   string // its number in the innermost PID namespace
	cgroups []byte
}

// processes lists the node's. One that ends meanwhile is left out.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		cgroups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue
		}
		program, _ := os.Readlink(filepath.Join(dir, "exe"))
		all = append(all, process{pid, filepath.Base(program), innermost(status), cgroups})
	}
	return all, nil
}

// of reports whether the process is one of these pods'. A pod's UID is part of the name of its control group, with systemd's
// driver in its spelling.
func (p process) of(pods []string) bool {
	return slices.ContainsFunc(pods, func(uid string) bool {
		return bytes.Contains(p.cgroups, []byte(uid)) || bytes.Contains(p.cgroups, []byte(strings.ReplaceAll(uid, "-", "_")))
	})
}

// innermost is the last number of the line NSpid of /proc/PID/status (proc(5)).
func innermost(status []byte) string {
	for line := range bytes.Lines(status) {
		if numbers, found := strings.CutPrefix(string(line), "NSpid:"); found {
			fields := strings.Fields(numbers)
			return fields[len(fields)-1]
		}
	}
	return ""
}

// kill ends the first process of the container, whose id is part of the name of its control group whatever made it.
func kill(container string) error {
	all, err := processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.inner != "1" || !bytes.Contains(p.cgroups, []byte(container)) {
			continue
		}
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill process %d, %s: %w", p.pid, p.program, err)
		}
		fmt.Printf("killed %s\n", p.program)
		return nil
	}
	return errors.New("no first process of a container " + container)
}
