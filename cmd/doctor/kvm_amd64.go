package doctor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and constants of Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h.
const (
	kvmGetAPIVersion       = 0xae00
	kvmCreateVM            = 0xae01
	kvmGetVCPUMmapSize     = 0xae04
	kvmCreateVCPU          = 0xae41
	kvmRun                 = 0xae80
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84

	kvmVersion = 12 // the only one there has been since 2007
	kvmExitHLT = 5
)

// The guest's memory, and where its code lies in it.
const (
	kvmMemory = 0x4000
	kvmCode   = 0x1000
)

// kvmGuest writes each byte of a page, backwards, 64 times, and halts. It runs in real mode, as every guest begins.
var kvmGuest = []byte{
	0xba, 0x40, 0x00, //             mov dx, 64
	0xb9, 0x00, 0x10, //          1: mov cx, 4096
	0x89, 0xce, //                2: mov si, cx
	0x88, 0x84, 0xff, 0x1f, //       mov [si+0x1fff], al
	0xe2, 0xf8, //                   loop 2b
	0x4a,       //                   dec dx
	0x75, 0xf2, //                   jnz 1b
	0xf4, //                         hlt
}

// kvmLimit is what the guest may take of a processor. Where KVM works, its quarter of a million writes take a millisecond.
// There are machines (nested, or without what the processor needs for it) on which every write of a guest traps and takes
// a thousand times as long: KVM answers, firmware takes minutes, and guests seem to hang. Time that others have the
// processor does not count.
const kvmLimit = 50 * time.Millisecond

// ProbeKVM runs a virtual machine of one processor until it halts. It may hang, and is to be called in a process that can
// be killed.
func ProbeKVM(device string) error {
	// The vCPU is the thread's, and so is the time.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kvm, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer kvm.Close()
	m := &machine{}
	if version := m.call("KVM_GET_API_VERSION", kvm.Fd(), kvmGetAPIVersion, nil); m.err == nil && version != kvmVersion {
		return fmt.Errorf("it speaks version %d of KVM's interface, not %d", version, kvmVersion)
	}
	vm := m.call("KVM_CREATE_VM", kvm.Fd(), kvmCreateVM, nil)
	memory, err := unix.Mmap(-1, 0, kvmMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err := errors.Join(m.err, err); err != nil {
		return err
	}
	copy(memory[kvmCode:], kvmGuest)
	region := struct { // struct kvm_userspace_memory_region
		slot, flags          uint32
		guest, size, address uint64
	}{size: kvmMemory, address: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	m.call("KVM_SET_USER_MEMORY_REGION", vm, kvmSetUserMemoryRegion, unsafe.Pointer(&region))
	cpu := m.call("KVM_CREATE_VCPU", vm, kvmCreateVCPU, nil)
	size := m.call("KVM_GET_VCPU_MMAP_SIZE", kvm.Fd(), kvmGetVCPUMmapSize, nil)
	if m.err != nil {
		return m.err
	}
	state, err := unix.Mmap(int(cpu), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	var segments [0x138]byte // struct kvm_sregs, which begins with cs: base (8), limit (4), selector (2)
	m.call("KVM_GET_SREGS", cpu, kvmGetSregs, unsafe.Pointer(&segments))
	clear(segments[:8])
	clear(segments[12:14])
	m.call("KVM_SET_SREGS", cpu, kvmSetSregs, unsafe.Pointer(&segments))
	var registers [18]uint64 // struct kvm_regs: …, rip, rflags, whose bit 1 is always set
	registers[16], registers[17] = kvmCode, 2
	m.call("KVM_SET_REGS", cpu, kvmSetRegs, unsafe.Pointer(&registers))
	before := processorTime()
	m.call("KVM_RUN", cpu, kvmRun, nil)
	took := processorTime() - before
	if m.err != nil {
		return m.err
	}
	if reason := *(*uint32)(unsafe.Pointer(&state[8])); reason != kvmExitHLT { // struct kvm_run
		return fmt.Errorf("a guest of eight instructions ended with the exit reason %d", reason)
	}
	if took > kvmLimit {
		return fmt.Errorf("a guest that writes 256 KiB takes %v of a processor, where a millisecond is usual, so guests will seem to hang", took.Round(time.Millisecond))
	}
	return nil
}

// machine keeps the first error of its calls.
type machine struct{ err error }

func (m *machine) call(name string, fd, request uintptr, argument unsafe.Pointer) uintptr {
	for m.err == nil {
		result, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(argument))
		switch errno {
		case 0:
			return result
		case unix.EINTR:
		default:
			m.err = fmt.Errorf("%s: %w", name, errno)
		}
	}
	return 0
}

// processorTime is what this thread has had.
func processorTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // every kernel has that clock
	return time.Duration(t.Nano())
}
