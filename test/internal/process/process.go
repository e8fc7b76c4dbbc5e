// Package process finds the processes of a namespace and ends them one by one, by their ids.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process at the time it was listed.
type Process struct {
	ID int
	// Name is what the kernel calls it: the program's name, cut to 15 bytes.
	Name string
}

// Kind is a kind of namespace, as in /proc/PID/ns.
type Kind string

// The kinds of namespaces that tests ask for.
const (
	Network Kind = "net"
	PID     Kind = "pid"
)

// Inside lists the processes whose namespace of the kind is the one at path, without the caller's own. Processes that ended
// and were not waited for are in none.
func Inside(kind Kind, path string) ([]Process, error) {
	namespace, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/" + string(kind))
	if err != nil {
		return nil, err
	}
	var inside []Process
	for _, link := range links {
		theirs, err := os.Stat(link)
		if err != nil || !os.SameFile(namespace, theirs) {
			continue // elsewhere, or ended since
		}
		dir := filepath.Dir(filepath.Dir(link))
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || id == os.Getpid() {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		inside = append(inside, Process{id, strings.TrimSpace(string(name))})
	}
	return inside, nil
}

// End sends a process a signal and returns when it has ended. That it ended by itself is no error.
func End(ctx context.Context, id int, signal syscall.Signal) error {
	return follow(ctx, id, signal)
}

// Wait returns when a process, which need not be a child, has ended.
func Wait(ctx context.Context, id int) error {
	const none = 0 // checks that the process is there
	return follow(ctx, id, none)
}

func follow(ctx context.Context, id int, signal syscall.Signal) error {
	fd, err := unix.PidfdOpen(id, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return ignoreGone(err)
	}
	for {
		// The descriptor becomes readable when the process ends; the timeout is for the context's sake.
		const patience = 100 * time.Millisecond
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("process %d does not end: %w", id, ctx.Err())
		}
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
