package pod

import (
	"context"
	_ "embed"
	"os/exec"
)

//go:embed enter.sh
var enter string

// Command prepares a program that runs in the pod: in its network namespace, with its hostname, its /etc/resolv.conf and /etc/hosts, and a
// /sys that shows its links. Otherwise it sees the machine's files. The process that starts is the program itself (each
// helper on the way replaces itself), so signals and the exit status are the program's.
func (p *Pod) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	wrapped := []string{
		"--net=" + p.Path, "--",
		"unshare", "--mount", "--uts", "--propagation", "private", "--",
		"/bin/sh", "-c", enter, "enter", p.Hostname, p.Etc(), name,
	}
	return exec.CommandContext(ctx, "nsenter", append(wrapped, args...)...)
}
