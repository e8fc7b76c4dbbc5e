// Package bench measures podnic as it is used: the built program in pods, beside what people use for the same. The
// benchmarks print what benchstat reads; test/bench/table makes tables of it. Each figure is a median, since other work of
// the machine tells more of a mean than the program does.
package bench

import (
	"bufio"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait.
const patience = time.Minute

// median reports the median of durations as what the operation takes.
func median(b *testing.B, times []time.Duration) {
	b.Helper()
	b.ReportMetric(float64(middle(times)), "ns/op")
}

func middle[T int64 | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// order makes the orders of inTurn, the same in each run.
var order = rand.New(rand.NewPCG(1, 2))

// inTurn is those that are compared, in an order of its own each time: what comes right after one that used much of the caches
// takes up to a third longer.
func inTurn[T any](all []T) iter.Seq2[int, T] {
	return func(yield func(int, T) bool) {
		for _, i := range order.Perm(len(all)) {
			if !yield(i, all[i]) {
				return
			}
		}
	}
}

// need skips a benchmark whose peer is not here.
func need(b *testing.B, program string) {
	b.Helper()
	if _, err := exec.LookPath(program); err != nil {
		b.Skipf("%s is not here", program)
	}
}

// memoryDir makes a directory on a tmpfs, as /run is in a pod, so that no disk is measured.
func memoryDir(b testing.TB) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "podnic-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run runs a program in a pod's namespace, and fails the benchmark with what it said if it fails.
func run(b *testing.B, p *pod.Pod, name string, args ...string) {
	b.Helper()
	if _, err := p.Output(b.Context(), name, args...); err != nil {
		b.Fatal(err)
	}
}

// server is a DHCP server in a pod.
type server struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// serve starts `podnic serve` in a pod that is prepared, and returns when it hears the guest.
func serve(b *testing.B, p *pod.Pod, podnic, stateDir string) *server {
	b.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), podnic, "serve", "--state-dir", stateDir, "--log-format", "json",
		"--resolv-conf", "/dev/null")
	cmd.Stderr = write
	err = p.Do(cmd.Start)
	if err := errors.Join(err, write.Close()); err != nil {
		b.Fatal(err)
	}
	s := &server{cmd: cmd, pipe: read}
	for lines := bufio.NewScanner(read); lines.Scan(); {
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			return s
		}
	}
	s.end()
	b.Fatalf("podnic serve in %s ended before it served", p.Name)
	return nil
}

func (s *server) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.cmd.Wait()
	s.pipe.Close()
}

// dnsmasqIn starts dnsmasq on a link of a pod for one client, with more arguments, and returns its process id when it serves.
func dnsmasqIn(b *testing.B, p *pod.Pod, link, mac, address, netmask, router, dir string, more ...string) int {
	b.Helper()
	pidFile := filepath.Join(dir, "dnsmasq.pid")
	// It goes into the background when it serves.
	run(b, p, "dnsmasq", append([]string{"--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=0", "--no-ping", "--user=root",
		"--interface=" + link, "--bind-interfaces", "--except-interface=lo", "--dhcp-authoritative", "--leasefile-ro",
		"--dhcp-range=" + address + ",static," + netmask + ",infinite", "--dhcp-host=" + mac + "," + address, "--dhcp-option=3," + router,
		"--pid-file=" + pidFile}, more...)...)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.Fatal(err)
	}
	return pid
}

// endAll ends processes that are not children, and returns when they have gone.
func endAll(b *testing.B, pids ...int) {
	b.Helper()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	for _, pid := range pids {
		for deadline := time.Now().Add(patience); syscall.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("process %d does not end", pid)
			}
		}
	}
}

// memory is a field of /proc/PID/smaps_rollup, in bytes.
func memory(b testing.TB, pid int, name string) float64 {
	b.Helper()
	return float64(podtest.Memory(b, pid, name))
}
