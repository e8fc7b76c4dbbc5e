package serving

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// gcPercent keeps the heap of a server that answers without pause at 2 MiB: with the runtime's own 100 every heap may grow
// to 4 MiB before the first collection. A server keeps a few hundred KiB, so to collect more often is cheap. With less, the
// runtime would collect at once what the start of a server of both families has left, and a collection takes more memory
// (0.5 MiB) than there is to give back.
const gcPercent = 50

// settleTime is how long after the start a server gives back what only the start needed: its state has been written then.
const settleTime = 500 * time.Millisecond

var settled = sync.OnceValue(func() *time.Timer { return time.AfterFunc(settleTime, giveBack) })

// settle has that given back, once for servers that start together.
func settle() { settled().Reset(settleTime) }

// giveBack returns to the kernel the pages of the program's file that only the start needed. A start maps nearly all of
// the file, because the kernel maps sixteen pages around each one that is touched. Those that are used again come back
// from the page cache, one fault for sixteen. Nothing is lost where it fails. The heap is left as it is: to collect so
// little takes more memory than it gives back.
func giveBack() {
	debug.SetGCPercent(gcPercent)
	if traced() {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		if start, length, ok := programPart(string(line)); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, length, unix.MADV_DONTNEED)
		}
	}
}

// traced tells whether a debugger has the process: it writes its breakpoints into these pages, and they would go with them
// (proc_pid_status(5)).
func traced() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && !bytes.Contains(status, []byte("\nTracerPid:\t0\n"))
}

// programPart reads a line of /proc/PID/maps (proc_pid_maps(5)). It finds the parts of the program's file that nobody but
// a debugger can have written to.
func programPart(line string) (start, length uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "r-xp" && fields[1] != "r--p" || fields[4] == "0" || !strings.HasPrefix(fields[5], "/") {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	first, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return 0, 0, false
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil || end <= first {
		return 0, 0, false
	}
	return uintptr(first), uintptr(end - first), true
}
