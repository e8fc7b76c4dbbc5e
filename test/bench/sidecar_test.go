package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
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

// sidecar is one in a pod of its own.
type sidecar struct {
	cmd    *exec.Cmd
	socket string
	// start is how long it took from exec to the answer to Info.
	start time.Duration
}

// BenchmarkSidecar measures sidecars' memory: idle after their start, and idle once a launcher has defined its domain and
// the guest's server runs. Its time is that from exec to the answer to Info. Each iteration is a pod; they are left alone
// together.
func BenchmarkSidecar(b *testing.B) {
	podtest.NeedRoot(b)
	program, node := podtest.Program(b), podtest.Node(b)
	var all []*sidecar
	var starts []time.Duration
	for range b.N {
		s := startSidecar(b, node, program)
		all, starts = append(all, s), append(starts, s.start)
	}
	median(b, starts)
	report := func(state string) {
		time.Sleep(sidecarQuiet)
		var resident, anonymous []float64
		for _, s := range all {
			resident = append(resident, memory(b, s.cmd.Process.Pid, "Rss"))
			anonymous = append(anonymous, memory(b, s.cmd.Process.Pid, "Anonymous"))
		}
		b.ReportMetric(middle(resident), state+"-resident-B")
		b.ReportMetric(middle(anonymous), state+"-anonymous-B")
	}
	report("idle")
	for _, s := range all {
		s.define(b)
	}
	report("serving")
}

// startSidecar makes a pod, wires it, and starts a sidecar in it.
func startSidecar(b *testing.B, node *pod.Node, program string) *sidecar {
	b.Helper()
	p := podtest.Pod(b, node, pod.Spec{Name: fmt.Sprintf("p%d", sidecars.Add(1)), Network: plain})
	run(b, p, "sh", "-e", "-c", "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start\necho 1 >/proc/sys/net/ipv4/conf/all/accept_local")
	run(b, p, program, "prepare", "--socket", "udp", "--state-dir", filepath.Join(b.TempDir(), "host"))
	dir := b.TempDir()
	cmd := exec.CommandContext(context.Background(), program, "sidecar", "--hook-dir", dir, "--container-name", "bench", "--plugin-name", "podnic", "--resolv-conf", "/dev/null", "--log-format", "json")
	read, write, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = write
	began := time.Now()
	if err := errors.Join(p.Do(cmd.Start), write.Close()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
		read.Close()
	})
	lines := bufio.NewScanner(read)
	said := ""
	for !strings.Contains(said, "waiting for the launcher") {
		if !lines.Scan() {
			b.Fatalf("podnic sidecar: %s", said)
		}
		said = lines.Text()
	}
	s := &sidecar{cmd: cmd, socket: filepath.Join(dir, "podnic-bench.sock")}
	callSidecar(b, s.socket, func(c *grpc.ClientConn) error {
		_, err := info.NewInfoClient(c).Info(b.Context(), &info.InfoParams{})
		return err
	})
	s.start = time.Since(began)
	return s
}

// sidecars counts those that were started, for their pods' names.
var sidecars atomic.Int32

// define has the domain defined as KubeVirt's launcher does, which calls more than once.
func (s *sidecar) define(b *testing.B) {
	b.Helper()
	params := &v1alpha3.OnDefineDomainParams{
		// A domain of KubeVirt's has some 10 KB.
		DomainXML: []byte("<domain><name>vm</name><devices>" + strings.Repeat("<controller type='usb' index='0' model='none'/>", 200) + "</devices></domain>"),
		Vmi: []byte(`{"metadata": {"name": "vm", "namespace": "default"}, "spec": {"networks": [{"name": "default", "pod": {}}],
			"domain": {"devices": {"interfaces": [{"name": "default", "binding": {"name": "podnic"}}]}}}}`),
	}
	for range 3 {
		callSidecar(b, s.socket, func(c *grpc.ClientConn) error {
			_, err := v1alpha3.NewCallbacksClient(c).OnDefineDomain(b.Context(), params)
			return err
		})
	}
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
