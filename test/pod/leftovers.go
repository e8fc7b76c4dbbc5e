package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/podnic/podnic/test/internal/process"
)

// Leftovers describes what is left of the node and its pods after Close, one thing a line: namespaces, mounts, processes,
// files. Nothing is what it should find.
func (n *Node) Leftovers() []string {
	var left []string
	namespaces, _ := filepath.Glob(filepath.Join(namespaceDir, n.Name+"*"))
	for _, path := range namespaces {
		left = append(left, "network namespace "+path)
		inside, _ := process.Inside(process.Network, path)
		for _, p := range inside {
			left = append(left, fmt.Sprintf("process %d (%s) in %s", p.ID, p.Name, path))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		left = append(left, "unknown mounts: "+err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+n.Name) {
			left = append(left, "mount "+strings.Fields(line)[1])
		}
	}
	if _, err := os.Lstat(n.dir); err == nil {
		left = append(left, "directory "+n.dir)
	}
	return left
}
