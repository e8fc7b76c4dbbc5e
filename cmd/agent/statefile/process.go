package statefile

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process says in the state file which process serves, so that a detached server can be ended by who did not start it.
type Process struct {
	ID int `json:"pid"`
	// Start tells the process from a later one of the same id: clock ticks since boot (proc_pid_stat(5), field 22).
	Start uint64 `json:"start"`
	// Detached says that it serves for the hook: nobody else ends it.
	Detached bool `json:"detached,omitempty"`
}

// ThisProcess is the calling one.
func ThisProcess() (*Process, error) {
	start, err := StartTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &Process{ID: os.Getpid(), Start: start}, nil
}

// StartTime is when a process started: clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may hold anything. The third follows it.
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const field = 22 - 3
	if len(fields) <= field {
		return 0, fmt.Errorf("/proc/%d/stat is not as proc_pid_stat(5) has it", pid)
	}
	return strconv.ParseUint(fields[field], 10, 64)
}
