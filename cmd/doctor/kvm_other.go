//go:build !amd64

package doctor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01

	kvmVersion = 12
)

// ProbeKVM asks for a virtual machine. That it would run is not tried on this architecture.
func ProbeKVM(device string) error {
	kvm, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer kvm.Close()
	version, _, errno := unix.Syscall(unix.SYS_IOCTL, kvm.Fd(), kvmGetAPIVersion, 0)
	switch {
	case errno != 0:
		return fmt.Errorf("KVM_GET_API_VERSION: %w", errno)
	case version != kvmVersion:
		return fmt.Errorf("it speaks version %d of KVM's interface, not %d", version, kvmVersion)
	}
	vm, _, errno := unix.Syscall(unix.SYS_IOCTL, kvm.Fd(), kvmCreateVM, 0)
	if errno != 0 {
		return fmt.Errorf("KVM_CREATE_VM: %w", errno)
	}
	return unix.Close(int(vm))
}
