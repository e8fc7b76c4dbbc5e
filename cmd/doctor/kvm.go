package doctor

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kvmTime is what a probe may take. Where KVM works it takes a few milliseconds.
var kvmTime = 5 * time.Second

// kvmWorks is what a probe prints that found nothing wrong.
const kvmWorks = "works"

// kvm finds out whether /dev/kvm, if there is one, runs guests: libvirt uses it because it is there. A machine without it
// emulates, which is slow, and not wrong.
func (v *visit) kvm() outcome {
	device := filepath.Join(v.Root, "/dev/kvm")
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return unopened(err)
	}
	f.Close()
	if len(v.ProbeKVM) == 0 {
		return unknown("whether /dev/kvm works: there is nothing to try it with")
	}
	said, ended := runProbe(append(v.ProbeKVM, device))
	switch {
	case !ended:
		return fail("/dev/kvm opens, and a guest of eight instructions hung in it for %v", kvmTime)
	case said != kvmWorks:
		return fail("/dev/kvm opens, and does not run guests: %s", said)
	}
	return ok("/dev/kvm runs a guest")
}

// unopened is what it means that the device does not open.
func unopened(err error) outcome {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warn("there is no /dev/kvm: guests are emulated, and <domain type='kvm'> does not start").but("mount /dev/kvm into the container and allow the device, or use <domain type='qemu'>")
	case errors.Is(err, unix.EACCES):
		return unknown("whether /dev/kvm works: this process may not open it, and the emulator's may").but("run it as the emulator's user, who has to be able to read and write /dev/kvm")
	case errors.Is(err, unix.EPERM):
		// Not by the file's mode: a container that has the node, from a hostPath volume, and not the right to it.
		return fail("/dev/kvm is there, and the container's device cgroup refuses it").but("have a device plugin give /dev/kvm to the container, or take the volume away and use <domain type='qemu'>")
	}
	return fail("/dev/kvm does not open: %v", err)
}

// runProbe runs a command and returns what it said, unless it has not ended in time. A process that cannot be killed, since
// the kernel does not come back, is left behind.
func runProbe(command []string) (said string, ended bool) {
	cmd := exec.Command(command[0], command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err.Error(), true
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if said = strings.TrimSpace(out.String()); said == "" && err != nil {
			said = "the probe ended: " + err.Error()
		}
		return said, true
	case <-time.After(kvmTime):
		_ = cmd.Process.Kill()
		return "", false
	}
}
