package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const header = `# Benchmarks

` + "`make bench`" + ` prints these tables and writes this page, in one run on one machine: the ratios say more than the
figures. It needs root, installs the peers that are missing where it can (Debian, Ubuntu), and takes about 17 minutes.
Each figure is a median. A goal is what the project set itself; ✗ marks one that this run did not reach.

`

// peers are the programs that podnic is measured beside or with, and how they tell their version.
var peers = [][]string{
	{"ip", "-V"}, {"nft", "--version"}, {"passt", "--version"}, {"dnsmasq", "--version"}, {"python3", "--version"}, {"libvirtd", "--version"},
	{"qemu-system-x86_64", "--version"},
}

// machine writes what the figures were taken on.
func machine(w io.Writer) {
	var host unix.Utsname
	_ = unix.Uname(&host) // without it the line says less
	var memory unix.Sysinfo_t
	_ = unix.Sysinfo(&memory)
	fmt.Fprintf(w, "- %s: %s, %d processors, %d GiB\n", time.Now().UTC().Format(time.DateOnly), processor(), runtime.NumCPU(),
		memory.Totalram*uint64(memory.Unit)>>30)
	fmt.Fprintf(w, "- Linux %s, %s, podnic %s\n", unix.ByteSliceToString(host.Release[:]), runtime.Version(), version("bin/podnic", "version"))
	var versions []string
	for _, p := range peers {
		versions = append(versions, version(p[0], p[1:]...))
	}
	fmt.Fprintf(w, "- beside: %s\n\n", strings.Join(versions, "; "))
}

func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// version is the first line that a program prints of itself.
func version(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return name + " (not here)"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, "  ")
	return strings.TrimPrefix(strings.TrimSpace(line), "podnic ")
}
