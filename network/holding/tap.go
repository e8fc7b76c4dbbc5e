package holding

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tap is a process that holds the other end of a tap: an emulator, most often.
type Tap struct {
	ID   int
	Name string // as the kernel calls it: the program's, cut to 15 bytes
}

func (h Tap) String() string { return fmt.Sprintf("process %d (%s)", h.ID, h.Name) }

// OfTap are the processes of this namespace that hold a tap. Another pod's tap has the same name, and /proc tells nothing
// but the name, so the process has to be in the namespace itself, as an emulator that libvirt started there is.
func OfTap(n namespace, tap string) ([]Tap, error) {
	var own unix.Stat_t
	if err := unix.Fstat(int(n.Fd()), &own); err != nil {
		return nil, fmt.Errorf("look at %s: %w", n, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var holders []Tap
	for _, dir := range processes {
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !holdsTap(dir, tap, own) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		holders = append(holders, Tap{id, strings.TrimSpace(string(name))})
	}
	return holders, nil
}

// holdsTap reports whether the process of a directory of /proc holds a tap. One that cannot be looked into, or that has ended,
// does not.
func holdsTap(dir, tap string, namespace unix.Stat_t) bool {
	var theirs unix.Stat_t
	if unix.Stat(filepath.Join(dir, "ns/net"), &theirs) != nil || theirs.Dev != namespace.Dev || theirs.Ino != namespace.Ino {
		return false
	}
	descriptors, err := filepath.Glob(filepath.Join(dir, "fdinfo", "*"))
	if err != nil {
		return false
	}
	for _, descriptor := range descriptors {
		info, err := os.ReadFile(descriptor)
		// tun_chr_show_fdinfo: "iff:\t%s\n", of a descriptor of /dev/net/tun alone.
		if err == nil && slices.Contains(strings.Split(string(info), "\n"), "iff:\t"+tap) {
			return true
		}
	}
	return false
}

// killAfter is how long an emulator has to end on SIGTERM, on which QEMU writes out what it holds of its disks. libvirt waits
// as long before it kills one (virProcessKillPainfully).
const killAfter = 10 * time.Second

// End ends the process, unless it has ended or does not hold the tap of the namespace any more: with SIGTERM, and with
// SIGKILL where it does not go. It returns when the process has ended.
func (h Tap) End(ctx context.Context, ns namespace, tap string) error {
	var own unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &own); err != nil {
		return fmt.Errorf("look at %s: %w", ns, err)
	}
	fd, err := unix.PidfdOpen(h.ID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", h, err)
	}
	defer unix.Close(fd)
	// Looked at again now that the number cannot become another process's.
	if !holdsTap(filepath.Join("/proc", strconv.Itoa(h.ID)), tap, own) {
		return nil
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end %s: %w", h, err)
		}
		if ended, err := awaitEnd(ctx, fd, killAfter); ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not end", h)
}

// awaitEnd reports whether a process has ended within a time. Its descriptor becomes readable by that.
func awaitEnd(ctx context.Context, pidfd int, wait time.Duration) (bool, error) {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		const look = 100 * time.Millisecond // at the context
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(look.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, os.NewSyscallError("poll", err)
		case n > 0:
			return true, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}
