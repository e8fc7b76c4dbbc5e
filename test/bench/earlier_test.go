package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// earlier is the program of an earlier commit, which scripts/bench builds; empty where nobody asked for one.
func earlier() string { return os.Getenv("PODNIC_EARLIER") }

// BenchmarkEarlier is what commands take, from exec to exit, beside those of an earlier podnic. The two are run in turn, so
// that what else the machine does meets both alike: the first of the benchmarks runs them, and the second reports of the
// same runs.
func BenchmarkEarlier(b *testing.B) {
	if earlier() == "" {
		b.Skip("an earlier podnic is not here")
	}
	p := podtest.Pod(b, podtest.Node(b), pod.Spec{Name: "vm", Network: pod.PTP})
	mac := macOf(p)
	ours := hookDomain("<metadata><podnic:pod xmlns:podnic='urn:podnic:domain:1'/></metadata>", mac)
	foreign := hookDomain("", mac)
	state := memoryDir(b)
	programs := []struct{ name, path string }{{"podnic", podtest.Program(b)}, {"earlier", earlier()}}
	// call runs a command of the k-th program.
	call := func(k int, input string, args ...string) time.Duration {
		cmd := exec.CommandContext(b.Context(), programs[k].path, args...)
		cmd.Env = append(os.Environ(), "PODNIC_STATE_DIR="+filepath.Join(state, programs[k].name))
		var said strings.Builder
		cmd.Stdin, cmd.Stderr = strings.NewReader(input), &said
		began := time.Now()
		if err := p.Do(cmd.Run); err != nil {
			b.Fatalf("%s: %v: %s", cmd, err, said.String())
		}
		return time.Since(began)
	}
	hook := func(k int, operation, sub string) time.Duration {
		return call(k, ours, "hook", "vm", operation, sub, "-")
	}
	prepare := func(k int) time.Duration { return call(k, "", "prepare") }
	restore := func(k int) time.Duration { return call(k, "", "restore") }
	begin := func(k int) time.Duration { return hook(k, "prepare", "begin") }
	release := func(k int) time.Duration { return hook(k, "release", "end") }
	other := func(k int) time.Duration { return call(k, foreign, "hook", "vm", "prepare", "begin", "-") }
	for _, commands := range []struct {
		names []string
		run   []func(k int) time.Duration
	}{
		{[]string{"prepare", "restore"}, []func(int) time.Duration{prepare, restore}},
		{[]string{"hook-ready", "hook-release"}, []func(int) time.Duration{begin, release}},
		{[]string{"hook-foreign"}, []func(int) time.Duration{other}},
	} {
		times := make([][2][]time.Duration, len(commands.names))
		for n, name := range commands.names {
			for reported, program := range programs {
				b.Run(name+"/"+program.name, func(b *testing.B) {
					for done := len(times[n][reported]); b.Loop(); done-- {
						if done > 0 {
							continue
						}
						for k := range inTurn(programs) {
							for n, run := range commands.run {
								times[n][k] = append(times[n][k], run(k))
							}
						}
					}
					median(b, times[n][reported])
				})
			}
		}
	}
}
