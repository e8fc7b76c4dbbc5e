package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// frameWirings are the ways in which a frame gets from the tap to the pod network, and back.
var frameWirings = []struct {
	name    string
	prepare []string // what podnic prepare is told
	hide    string   // what the kernel shall be without
	first   []string // what is run in the pod before it, and then behind it
	then    []string
}{
	{name: "bridge"},
	{name: "bridge-without-filter", then: []string{"nft", "delete table bridge podnic-eth0"}},
	{name: "redirect", prepare: []string{"--binding", "redirect"}},
	{
		name: "shared", prepare: []string{"--binding", "shared", "--pod-ports", "8080,9640/tcp", "--guest-ports", "22"},
		first: []string{"sysctl", "-qw", "net.ipv4.ip_local_port_range=" + sources},
	},
	{name: "tc", prepare: []string{"--binding", "redirect"}, hide: "fwd"},
}

// BenchmarkFrame takes the processor time of a frame between the tap and the pod network, in each direction, with the
// system calls that write it at one end and read it at the other: those are the same for all wirings, podnic's and others'. The
// frames are short, so that what is copied does not hide what is decided, and those inward answer those outward. Wirings take
// turns, so that what else the machine does meets all of them alike.
func BenchmarkFrame(b *testing.B) {
	podtest.NeedRoot(b)
	podnic := podtest.Program(b)
	node := podtest.Node(b)
	var names []string
	var paths []*framePath
	newPod := func() *pod.Pod {
		return podtest.Pod(b, node, pod.Spec{Name: fmt.Sprint("w", len(paths)), Network: plain})
	}
	add := func(name string, f *framePath) *framePath {
		f.arrives(node)
		names, paths = append(names, name), append(paths, f)
		return f
	}
	for _, w := range frameWirings {
		p := newPod()
		dir := memoryDir(b)
		if w.first != nil {
			run(b, p, w.first[0], w.first[1:]...)
		}
		prepare := []string{"PODNIC_TEST_WITHOUT=" + w.hide, podnic, "prepare", "--state-dir", dir}
		run(b, p, "env", append(prepare, w.prepare...)...)
		defer run(b, p, podnic, "restore", "--force", "--state-dir", dir)
		if w.then != nil {
			run(b, p, w.then[0], w.then[1:]...)
		}
		card := &other{guest: podMAC, gateway: elsewhereMAC, reached: podMAC, address: podAddress}
		defer add(w.name, newFramePath(b, node, p, card)).close()
	}
	for i := range others {
		o, p := &others[i], newPod()
		podtest.In(b, o.on(node, p), "sh "+o.script(b, node, p, b.TempDir()))
		podtest.In(b, p.Namespace, o.settle)
		defer add(o.name, newFramePath(b, node, p, o)).close()
	}
	b.Run("both", func(b *testing.B) {
		runtime.LockOSThread() // a sub-benchmark is a goroutine of its own
		defer runtime.UnlockOSThread()
		clock := newClock(b)
		out, in := make([][]time.Duration, len(paths)), make([][]time.Duration, len(paths))
		for b.Loop() {
			for i, f := range inTurn(paths) {
				out[i] = append(out[i], clock.frame(b, f.out))
				in[i] = append(in[i], clock.frame(b, f.in))
			}
		}
		for i, name := range names {
			b.ReportMetric(float64(middle(out[i])), name+"-out-ns/op")
			b.ReportMetric(float64(middle(in[i])), name+"-in-ns/op")
			b.ReportMetric(float64(middle(out[i])+middle(in[i])), name+"-ns/op")
		}
	})
}

// burst is how many frames go one after the other before they are read: less than a tap holds (its queue's 1000).
const burst = 100

// framePath has both ends of the way of a frame.
type framePath struct {
	b       *testing.B
	card    *os.File
	host    int // a packet socket of the node's
	link    *unix.SockaddrLinklayer
	outward []byte
	inward  []byte
	buffer  []byte
}

func newFramePath(b *testing.B, node *pod.Node, p *pod.Pod, o *other) *framePath {
	b.Helper()
	f := &framePath{b: b, buffer: make([]byte, 2048)}
	// No host has the MAC elsewhere: the node's stack drops the frame as soon as it has it.
	const length, from, to = 60, 40000, 9 // and discard's port
	out := net.IPv4(198, 51, 100, 9)
	f.outward = udpFrame(flow{mac(b, o.guest), mac(b, o.gateway), o.address[:], out.To4(), from, to}, length)
	f.inward = udpFrame(flow{mac(b, elsewhereMAC), mac(b, o.reached), out.To4(), podAddress[:], to, from}, length)[tap.HeaderSize:]
	err := node.Do(func() (err error) {
		link, err := net.InterfaceByName(cmp.Or(o.far, p.HostLink))
		if err != nil {
			return err
		}
		f.link = &unix.SockaddrLinklayer{Ifindex: link.Index}
		f.host, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if o.card != nil {
		f.card = o.card(b, p)
	} else if err := p.Do(func() (err error) { f.card, err = tap.Open("tap0"); return err }); err != nil {
		b.Fatal(err)
	}
	f.card.Fd() // reads and writes wait, without the runtime's poller
	return f
}

// arrives waits until a frame that is written to the tap is on the node's end, and one that is sent there on the tap, as in all
// that is measured: the carrier of a link that was just set up takes its time.
func (f *framePath) arrives(node *pod.Node) {
	f.b.Helper()
	err := node.Do(func() error {
		heard, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(heard)
		everything := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8 // in the network's order
		if err := unix.Bind(heard, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: f.link.Ifindex}); err != nil {
			return err
		}
		outward := func() error { _, err := unix.Write(int(f.card.Fd()), f.outward); return err }
		inward := func() error { return unix.Sendto(f.host, f.inward, 0, f.link) }
		if err := f.comes(outward, heard, 0, f.outward[tap.HeaderSize:]); err != nil {
			return fmt.Errorf("from the tap to the node: %w", err)
		}
		if err := f.comes(inward, int(f.card.Fd()), tap.HeaderSize, f.inward); err != nil {
			return fmt.Errorf("from the node to the tap: %w", err)
		}
		return nil
	})
	if err != nil {
		f.b.Fatal(err)
	}
}

// comes sends a frame until it is read elsewhere, behind so many bytes.
func (f *framePath) comes(send func() error, at, header int, frame []byte) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := send(); err != nil {
			return err
		}
		for wait := []unix.PollFd{{Fd: int32(at), Events: unix.POLLIN}}; ; {
			if n, err := unix.Poll(wait, 50); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			} else if n == 0 {
				break
			}
			n, err := unix.Read(at, f.buffer)
			if err != nil {
				return err
			}
			if n > header && same(f.buffer[header:n], frame) {
				return nil
			}
		}
	}
	return errors.New("no frame arrives")
}

// same reports whether a frame is the one that was sent, but for addresses that were changed on the way. The UDP of frames out
// has other ports than that of frames in.
func same(got, sent []byte) bool {
	const toUDP = 14 + 20
	return len(got) == len(sent) && bytes.Equal(got[toUDP:], sent[toUDP:])
}

func (f *framePath) close() {
	f.card.Close()
	unix.Close(f.host)
}

func (f *framePath) out() {
	for range burst {
		if _, err := unix.Write(int(f.card.Fd()), f.outward); err != nil {
			f.b.Fatal(err)
		}
	}
}

// in reads what it has sent: others may come too, from the links themselves.
func (f *framePath) in() {
	for range burst {
		if err := unix.Sendto(f.host, f.inward, 0, f.link); err != nil {
			f.b.Fatal(err)
		}
	}
	for read := 0; read < burst; {
		n, err := unix.Read(int(f.card.Fd()), f.buffer)
		if err != nil {
			f.b.Fatal(err)
		}
		if same(f.buffer[tap.HeaderSize:n], f.inward) {
			read++
		}
	}
}

// clock tells the processor time of this thread and of the kernel's that does what is left over on the same processor.
type clock struct {
	softirq string
}

func newClock(b *testing.B) *clock {
	b.Helper()
	const processor = 0
	var before, one unix.CPUSet
	one.Set(processor)
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		b.Fatal(err)
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			b.Error(err)
		}
	})
	threads, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range threads {
		name, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(name)) == fmt.Sprintf("ksoftirqd/%d", processor) {
			return &clock{softirq: filepath.Join(filepath.Dir(path), "schedstat")}
		}
	}
	return &clock{} // in a PID namespace of its own, the kernel's threads are not to be seen
}

func (c *clock) now(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	total := time.Duration(t.Nano())
	if c.softirq != "" {
		text, err := os.ReadFile(c.softirq)
		if err != nil {
			b.Fatal(err)
		}
		var ran int64 // nanoseconds on a processor (Documentation/scheduler/sched-stats.rst)
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ran)
	}
	return total
}

// frame is the time of one, of many in a row.
func (c *clock) frame(b *testing.B, send func()) time.Duration {
	const bursts = 100
	began := c.now(b)
	for range bursts {
		send()
	}
	return (c.now(b) - began) / (bursts * burst)
}
