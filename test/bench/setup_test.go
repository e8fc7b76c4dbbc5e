package bench

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// setUp is a way to give a guest the network of a pod.
type setUp struct {
	name       string
	make, undo func(b *testing.B)
}

// BenchmarkSetUp is what it takes until a guest's link is there, from exec to exit: by podnic, with the record on tmpfs, and by
// what makes the other wirings, which finds nothing out and keeps no record. passt has no link, and takes what it takes until a guest can
// connect to it. Each has a pod of its own, and they take turns.
func BenchmarkSetUp(b *testing.B) {
	podtest.NeedRoot(b)
	podnic := podtest.Program(b)
	node := podtest.Node(b)
	var ways []setUp
	newPod := func() *pod.Pod {
		return podtest.Pod(b, node, pod.Spec{Name: fmt.Sprint("s", len(ways)), Network: plain})
	}
	for _, w := range frameWirings {
		if w.hide != "" || w.then != nil {
			continue
		}
		p, dir := newPod(), memoryDir(b)
		if w.first != nil {
			run(b, p, w.first[0], w.first[1:]...)
		}
		ways = append(ways, setUp{
			w.name,
			func(b *testing.B) {
				run(b, p, podnic, append([]string{"prepare", "--state-dir", dir}, w.prepare...)...)
			},
			func(b *testing.B) { run(b, p, podnic, "restore", "--state-dir", dir) },
		})
	}
	for _, o := range others {
		p := newPod()
		script, in := o.script(b, node, p, memoryDir(b)), o.on(node, p)
		ways = append(ways, setUp{
			o.name,
			func(b *testing.B) {
				if _, err := in.Output(b.Context(), "sh", script); err != nil {
					b.Fatal(err)
				}
			},
			func(b *testing.B) { podtest.In(b, p.Namespace, o.undo) },
		})
	}
	if _, err := exec.LookPath("passt"); err == nil {
		ways = append(ways, passtSetUp(newPod(), memoryDir(b)))
	} else {
		b.Log("passt is not here")
	}
	for _, w := range ways { // the first time is another one
		w.make(b)
		w.undo(b)
	}
	b.Run("all", func(b *testing.B) {
		times := make([][]time.Duration, len(ways))
		for b.Loop() {
			for i, w := range inTurn(ways) {
				began := time.Now()
				w.make(b)
				times[i] = append(times[i], time.Since(began))
				w.undo(b)
			}
		}
		for i, w := range ways {
			b.ReportMetric(float64(middle(times[i])), w.name+"-ns/op")
		}
	})
}

func passtSetUp(p *pod.Pod, dir string) setUp {
	path := filepath.Join(dir, "passt.sock")
	var process *exec.Cmd
	var conn net.Conn
	return setUp{
		"passt",
		func(b *testing.B) {
			process = exec.CommandContext(context.Background(), "passt", passtArguments(path)...)
			if err := p.Do(process.Start); err != nil {
				b.Fatal(err)
			}
			for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Microsecond) {
				var err error
				if conn, err = net.Dial("unix", path); err == nil {
					return
				}
				if time.Now().After(deadline) {
					b.Fatal(err)
				}
			}
		},
		func(*testing.B) {
			conn.Close()
			_ = process.Process.Kill()
			_ = process.Wait() // it was killed, or ended with its guest
		},
	}
}
