package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// beInit does what the first process of a container has to do, where podnic is it: it runs the same command line in a
// child, passes signals on to it, and reaps whatever else ends. An emulator is an orphan from its start, and libvirt
// waits for one that nobody reaps to go away.
func (a *app) beInit() error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	child, err := os.StartProcess(program, os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fmt.Errorf("run as a child of process 1: %w", err)
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s) // one that has ended is reaped below
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the child of process 1: %w", err)
		case pid != child.Pid:
		case status.Signaled():
			return statusError{128 + int(status.Signal()), fmt.Errorf("ended by %s", status.Signal())}
		case status.ExitStatus() == 0:
			return nil
		default:
			return statusError{status.ExitStatus(), nil} // it has said why
		}
	}
}
