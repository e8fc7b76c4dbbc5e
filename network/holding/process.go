package holding

import (
	"fmt"
	"os"
	"strings"
)

// CommandOf is the command line of a process, as the process has it (proc_pid_cmdline(5)); nil if it is not to be seen.
func CommandOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// maxCommand is how much of a command line a message has, in bytes.
const maxCommand = 80

// commandLine is the command line for a message; empty if it is not to be seen.
func commandLine(pid int) string {
	line := strings.TrimSpace(strings.Join(CommandOf(pid), " "))
	if len(line) > maxCommand {
		line = line[:maxCommand] + "…"
	}
	return line
}
