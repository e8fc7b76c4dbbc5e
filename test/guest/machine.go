package guest

import (
	"context"
	"os/exec"
	"strconv"
)

// Machine is a virtual machine that QEMU runs without libvirt.
type Machine struct {
	Image *Image
	// KVM is whether the machine has working hardware virtualization.
	KVM bool
	// Memory in MiB, and Processors; zero is 128 and one.
	Memory, Processors int
	// Serial are the files that the serial consoles go to, ttyS0 first. The kernel's own is ttyS0.
	Serial []string
	// Arguments are added to the kernel's.
	Arguments []string
	// Devices are further arguments of QEMU's.
	Devices []string
}

// Command is QEMU, which ends when the machine is off.
func (m Machine) Command(ctx context.Context) *exec.Cmd {
	accelerator := []string{"-machine", "q35,accel=tcg"}
	if m.KVM {
		accelerator = []string{"-machine", "q35,accel=kvm", "-cpu", "host"}
	}
	args := append(accelerator, "-m", strconv.Itoa(max(m.Memory, 128)), "-smp", strconv.Itoa(max(m.Processors, 1)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.Image.Kernel, "-initrd", m.Image.Initrd, "-append", Domain{Arguments: m.Arguments}.CommandLine())
	for _, file := range m.Serial {
		args = append(args, "-serial", "file:"+file)
	}
	return exec.CommandContext(ctx, "qemu-system-x86_64", append(args, m.Devices...)...)
}
