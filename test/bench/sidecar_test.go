package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/podnic/podnic/domain/kubevirt/hooks/info"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha3"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// sidecarQuiet is how long a sidecar is left alone before it is taken to be idle: it gives memory back a second after a call.
const sidecarQuiet = 2 * time.Second

// sidecarSizes are what is measured of a sidecar, in bytes: resident and anonymous memory of /proc/PID/smaps_rollup.
type sidecarSizes struct{ resident, anonymous float64 }

// BenchmarkSidecar measures a sidecar's memory: idle after its start, and idle once a launcher has defined its domain and
// the guest's server runs. Its time is that from exec to the answer to Info.
func BenchmarkSidecar(b *testing.B) {
	podtest.NeedRoot(b)
	program := podtest.Program(b)
	p := podtest.Pod(b, podtest.Node(b), pod.Spec{Name: "launcher", Network: pod.PTP})
	settings := "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start\necho 1 >/proc/sys/net/ipv4/conf/all/accept_local"
	for _, args := range [][]string{
		{"sh", "-e", "-c", settings},
		{program, "prepare", "--socket", "udp", "--state-dir", filepath.Join(b.TempDir(), "host")},
	} {
		if _, err := p.Output(b.Context(), args[0], args[1:]...); err != nil {
			b.Fatal(err)
		}
	}
	var idle, serving []sidecarSizes
	var starts []time.Duration
	for range b.N {
		i, s, start := runSidecar(b, p, program)
		idle, serving, starts = append(idle, i), append(serving, s), append(starts, start)
	}
	median(b, starts)
	for state, sizes := range map[string][]sidecarSizes{"idle": idle, "serving": serving} {
		var resident, anonymous []float64
		for _, s := range sizes {
			resident, anonymous = append(resident, s.resident), append(anonymous, s.anonymous)
		}
		b.ReportMetric(middle(resident), state+"-resident-B")
		b.ReportMetric(middle(anonymous), state+"-anonymous-B")
	}
}

// runSidecar is a sidecar's life, as far as KubeVirt's launcher sees it.
func runSidecar(b *testing.B, p *pod.Pod, program string) (idle, serving sidecarSizes, start time.Duration) {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.CommandContext(context.Background(), program, "sidecar", "--hook-dir", dir, "--container-name", "bench", "--plugin-name", "podnic", "--resolv-conf", "/dev/null", "--log-format", "json")
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer read.Close()
	cmd.Stderr = write
	began := time.Now()
	if err := errors.Join(p.Do(cmd.Start), write.Close()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(read)
	said := ""
	for !strings.Contains(said, "waiting for the launcher") {
		if !lines.Scan() {
			b.Fatalf("podnic sidecar: %s", said)
		}
		said = lines.Text()
	}
	socket := filepath.Join(dir, "podnic-bench.sock")
	callSidecar(b, socket, func(c *grpc.ClientConn) error {
		_, err := info.NewInfoClient(c).Info(b.Context(), &info.InfoParams{})
		return err
	})
	start = time.Since(began)
	time.Sleep(sidecarQuiet)
	idle = sidecarSize(b, cmd.Process.Pid)

	params := &v1alpha3.OnDefineDomainParams{
		// A domain of KubeVirt's has some 10 KB.
		DomainXML: []byte("<domain><name>vm</name><devices>" + strings.Repeat("<controller type='usb' index='0' model='none'/>", 200) + "</devices></domain>"),
		Vmi: []byte(`{"metadata": {"name": "vm", "namespace": "default"}, "spec": {"networks": [{"name": "default", "pod": {}}],
			"domain": {"devices": {"interfaces": [{"name": "default", "binding": {"name": "podnic"}}]}}}}`),
	}
	for range 3 {
		callSidecar(b, socket, func(c *grpc.ClientConn) error {
			_, err := v1alpha3.NewCallbacksClient(c).OnDefineDomain(b.Context(), params)
			return err
		})
	}
	time.Sleep(sidecarQuiet)
	return idle, sidecarSize(b, cmd.Process.Pid), start
}

// callSidecar connects for one call, as a launcher does.
func callSidecar(b *testing.B, socket string, call func(*grpc.ClientConn) error) {
	b.Helper()
	c, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		err = errors.Join(call(c), c.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
}

func sidecarSize(b *testing.B, pid int) sidecarSizes {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	size := func(field string) float64 {
		for line := range strings.Lines(string(text)) {
			if words := strings.Fields(line); len(words) == 3 && words[0] == field+":" {
				kib, err := strconv.ParseFloat(words[1], 64)
				if err != nil {
					b.Fatal(err)
				}
				return kib * 1024
			}
		}
		b.Fatalf("/proc/%d/smaps_rollup has no %s", pid, field)
		return 0
	}
	return sidecarSizes{size("Rss"), size("Anonymous")}
}
