package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const header = `# Benchmarks

` + "`make bench`" + ` measures, and writes this page, its charts and the file of its figures, in one run on one machine: the
ratios say more than the figures. It needs root, installs the peers that are missing where it can (Debian, Ubuntu), and
takes about 20 minutes. Each figure is a median; ` + spread + ` marks one of passes that differ by more than a factor of
two. A goal is what the project set itself; ✗ marks one that this run did not reach.

A chart has a bar for each row with a peer: how many times the peer's figure podnic's is. ` + "`make charts`" + ` draws page
and charts anew from the file, without a run. The files of all runs that were kept are in [bench](bench), in
benchstat's format: ` + "`make trends`" + ` compares them.

`

// peers are the programs that podnic is measured beside or with, and how they tell their version.
var peers = [][]string{
	{"ip", "-V"}, {"nft", "--version"}, {"passt", "--version"}, {"dnsmasq", "--version"}, {"python3", "--version"}, {"libvirtd", "--version"},
	{"qemu-system-x86_64", "--version"},
}

// machine is what figures were taken on: pairs of a key and a value, in the order in which they are written.
type machine [][2]string

// here is this machine, today.
func here() machine {
	var host unix.Utsname
	_ = unix.Uname(&host) // without it the line says less
	var memory unix.Sysinfo_t
	_ = unix.Sysinfo(&memory)
	var versions []string
	for _, p := range peers {
		versions = append(versions, version(p[0], p[1:]...))
	}
	m := machine{
		{"date", time.Now().UTC().Format(time.DateOnly)},
		{"machine", fmt.Sprintf("%s, %d processors, %d GiB", processor(), runtime.NumCPU(), memory.Totalram*uint64(memory.Unit)>>30)},
		{"software", fmt.Sprintf("Linux %s, %s, podnic %s", unix.ByteSliceToString(host.Release[:]), runtime.Version(), version("bin/podnic", "version"))},
		{"beside", strings.Join(versions, "; ")},
	}
	if earlier := os.Getenv("PODNIC_EARLIER"); earlier != "" {
		m = append(m, [2]string{"earlier", "podnic " + version(earlier, "version")})
	}
	return m
}

func (m machine) value(key string) string {
	for _, c := range m {
		if c[0] == key {
			return c[1]
		}
	}
	return ""
}

// write writes it as the page does.
func (m machine) write(w io.Writer) {
	fmt.Fprintf(w, "- %s: %s\n- %s\n- beside: %s\n", m.value("date"), m.value("machine"), m.value("software"), m.value("beside"))
	if earlier := m.value("earlier"); earlier != "" {
		fmt.Fprintf(w, "- before: %s\n", earlier)
	}
}

// config writes it as lines of configuration (https://go.dev/design/14313-benchmark-format).
func (m machine) config() string {
	var b strings.Builder
	for _, c := range m {
		fmt.Fprintf(&b, "%s: %s\n", c[0], c[1])
	}
	return b.String()
}

var configuration = regexp.MustCompile(`(?m)^([a-z][^\s:]*): +(.*)$`)

// configured is what config wrote at the head of a file.
func configured(text string) (m machine) {
	head, _, _ := strings.Cut(text, "\nBenchmark")
	for _, c := range configuration.FindAllStringSubmatch(head, -1) {
		m = append(m, [2]string{c[1], c[2]})
	}
	return m
}

// file is the name under which the figures are kept: sorted by it, runs are in their order.
func (m machine) file() string {
	_, podnic, _ := strings.Cut(m.value("software"), "podnic ")
	commit, _, _ := strings.Cut(podnic, " ")
	return m.value("date") + "-" + strings.ReplaceAll(commit, "/", "-") + ".txt"
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

// version is the first line that a program prints of itself; of one that does not know its version, the package's.
func version(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return name + " (not here)"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, "  ")
	if strings.HasSuffix(line, " unknown version") {
		if out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output(); err == nil {
			return name + " " + string(out)
		}
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "podnic ")
}
