package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// sharingWays are the ways in which a guest has the pod's address, beside containers or not, and last QEMU's user networking
// (slirp), behind which it has one of its own. The first has no pod: the guest is on the pod network, so that what the ends
// cost is known.
var sharingWays = []string{"ends", "redirect", "shared", "passt", "slirp"}

const (
	streamBytes = 128 << 20
	slirpBytes  = streamBytes / 8 // which takes it as long
	roundTrips  = 2000
	guestPort   = 7000
	sources     = "28232 32767" // of a pod that shares its address
)

// sharingNetwork is a pod network with the MTU of Ethernet.
var sharingNetwork = pod.Network{MTU: 1500, Scripts: pod.Scripts{
	Address: plain.Scripts.Address, Pod: plain.Scripts.Pod,
	Node: "ip address add 10.244.1.1/24 dev $LINK\nip link set $LINK up",
}}

// BenchmarkSharing has a TCP stream in either direction, and a byte that goes there and back, between the pod network and a
// guest that has the pod's address. A namespace plays the guest. What carries its frames to a tap of podnic's, or to a
// socket of passt's or QEMU's, stands for the emulator: it is the same but for how a frame begins. Ways take turns.
func BenchmarkSharing(b *testing.B) {
	podtest.NeedRoot(b)
	need(b, "passt")
	podnic := podtest.Program(b)
	all := make([]*sharing, len(sharingWays))
	for i, way := range sharingWays {
		all[i] = newSharing(b, podnic, way)
		defer all[i].end()
	}
	b.Run("both", func(b *testing.B) {
		for b.Loop() {
			for _, s := range all {
				began := s.processor()
				s.out = append(s.out, s.stream(s.guest, s.node, "10.244.1.1"))
				s.in = append(s.in, s.stream(s.node, s.guest, "10.244.1.5"))
				s.spent = append(s.spent, (s.processor()-began)/float64(2*s.bytes)*(1<<30)*1e9)
				s.times = append(s.times, s.pingPong()...)
			}
		}
		ends := middle(all[0].spent)
		for i, way := range sharingWays {
			s := all[i]
			slices.Sort(s.times)
			b.ReportMetric(middle(s.out)/(1<<30), way+"-out-GiB/s")
			b.ReportMetric(middle(s.in)/(1<<30), way+"-in-GiB/s")
			b.ReportMetric(float64(s.timeouts()), way+"-timeouts")
			b.ReportMetric(middle(s.spent), way+"-cpu-ns/op")
			b.ReportMetric(middle(s.spent)-ends, way+"-path-ns/op")
			b.ReportMetric(float64(s.times[len(s.times)/2]), way+"-p50-ns/op")
			b.ReportMetric(float64(s.times[len(s.times)*99/100]), way+"-p99-ns/op")
			if way == "passt" { // most of QEMU's is not of its network
				b.ReportMetric(memory(b, s.process.Process.Pid, "Rss"), way+"-rss-B")
			}
		}
	})
}

// sharing is a guest and its pod network.
type sharing struct {
	b           *testing.B
	node, guest *pod.Namespace
	process     *exec.Cmd // passt or QEMU
	bytes       int       // of a stream
	ends        []func()

	out, in, spent []float64 // bytes a second, and nanoseconds of processors a GiB
	times          []time.Duration
}

func newSharing(b *testing.B, podnic, way string) *sharing {
	b.Helper()
	node := podtest.Node(b)
	s := &sharing{b: b, node: node.Namespace, bytes: streamBytes}
	guest, err := node.AddNamespace("guest")
	if err != nil {
		b.Fatal(err)
	}
	s.guest = guest
	s.ends = append(s.ends, func() { guest.Close() })
	if way == "ends" {
		card := s.open(node.Namespace, "ends0")
		podtest.In(b, node.Namespace, "ip addr add 10.244.1.1/24 dev ends0; ip link set ends0 up")
		s.plug("02:00:00:00:00:05", 1500, taps{card}, "10.244.1.5", "10.244.1.1")
		return s
	}
	p := podtest.Pod(b, node, pod.Spec{Name: "sharing", Network: sharingNetwork})
	mac := podtest.Link(b, p.Namespace, "eth0").HardwareAddr.String()
	switch way {
	case "passt":
		s.plug(mac, 65520, s.startPasst(p), "10.244.1.5", "10.244.1.1") // what it tells its guests, so that a frame holds much
	case "slirp":
		s.bytes = slirpBytes
		// Its guests fill in checksums and segment by themselves: what it sends and takes has no virtio header.
		s.withoutOffload(s.plug(mac, 1500, s.startSlirp(p), "10.0.2.15", "10.0.2.2"))
	default:
		run(b, p, "sysctl", "-qw", "net.ipv4.ip_local_port_range="+sources)
		dir := memoryDir(b)
		args := []string{"prepare", "--state-dir", dir, "--binding", way}
		if way == "shared" {
			args = append(args, "--pod-ports", "8080,9640/tcp", "--guest-ports", "22")
		}
		run(b, p, podnic, args...)
		s.ends = append(s.ends, func() { run(b, p, podnic, "restore", "--force", "--state-dir", dir) })
		s.plug(mac, 1500, taps{s.open(p.Namespace, "tap0")}, "10.244.1.5", "10.244.1.1")
	}
	return s
}

// plug puts the guest's card, which it returns, behind a link.
func (s *sharing) plug(mac string, mtu int, frames link, address, gateway string) *os.File {
	s.b.Helper()
	card := s.open(s.guest, "g0")
	podtest.In(s.b, s.guest, fmt.Sprintf("ip link set lo up; ip link set g0 address %s mtu %d up; ip addr add %s/24 dev g0; ip route add default via %s",
		mac, mtu, address, gateway))
	s.pump(card, frames)
	return card
}

func (s *sharing) withoutOffload(card *os.File) {
	s.b.Helper()
	raw, err := card.SyscallConn()
	if err != nil {
		s.b.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, 0) }); err != nil || failed != nil {
		s.b.Fatal(err, failed)
	}
}

// end takes everything back, what was made last first.
func (s *sharing) end() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
}

func (s *sharing) open(in *pod.Namespace, name string) (file *os.File) {
	s.b.Helper()
	if err := in.Do(func() (err error) { file, err = tap.Open(name); return err }); err != nil {
		s.b.Fatal(err)
	}
	s.ends = append(s.ends, func() { file.Close() })
	return file
}

// startPasst runs passt in the pod, with the port of the guest that is reached. It takes the pod's address for the guest's.
func (s *sharing) startPasst(p *pod.Pod) link {
	s.b.Helper()
	path := filepath.Join(memoryDir(s.b), "passt.sock")
	return s.startProcess(p, path, "passt", passtArguments(path)...)
}

func passtArguments(socket string) []string {
	return []string{
		"--foreground", "--quiet", "--socket", socket, "--no-map-gw", "--runas", "0", "--tcp-ports", strconv.Itoa(guestPort), "--udp-ports", "none",
	}
}

// startSlirp runs QEMU in the pod, without a machine: its user networking alone, whose frames are at a socket. The guest's
// address is the one that it gives first.
func (s *sharing) startSlirp(p *pod.Pod) link {
	s.b.Helper()
	path := filepath.Join(memoryDir(s.b), "slirp.sock")
	return s.startProcess(p, path, "qemu-system-x86_64", "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none",
		"-netdev", fmt.Sprintf("user,id=user,ipv6=off,hostfwd=tcp::%[1]d-:%[1]d", guestPort),
		"-netdev", "stream,id=pump,server=on,addr.type=unix,addr.path="+path,
		"-netdev", "hubport,id=one,hubid=0,netdev=user", "-netdev", "hubport,id=other,hubid=0,netdev=pump")
}

// startProcess runs a program in the pod that listens for the guest's frames at a socket.
func (s *sharing) startProcess(p *pod.Pod, path, name string, args ...string) link {
	s.b.Helper()
	s.process = exec.Command(name, args...)
	if err := p.Do(s.process.Start); err != nil {
		s.b.Fatal(err)
	}
	s.ends = append(s.ends, func() {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			s.ends = append(s.ends, func() { conn.Close() })
			return &stream{conn: conn, buffer: make([]byte, 0, 1<<18)}
		}
		if time.Now().After(deadline) {
			s.b.Fatal(err)
		}
	}
}

// link is where the guest's frames go to and come from, with the header of a tap.
type link interface {
	read(frame []byte) (int, error)
	write(frame []byte) error
}

type taps struct{ *os.File }

func (t taps) read(frame []byte) (int, error) { return t.Read(frame) }

func (t taps) write(frame []byte) error {
	_, err := t.Write(frame)
	if errors.Is(err, unix.EIO) {
		return nil // it has no carrier yet
	}
	return err
}

// stream has the frames of QEMU's socket: each behind its length, four bytes.
type stream struct {
	conn   net.Conn
	buffer []byte // what was read and not taken
	out    []byte
}

func (s *stream) read(frame []byte) (int, error) {
	for {
		if len(s.buffer) >= 4 {
			if n := int(binary.BigEndian.Uint32(s.buffer)); len(s.buffer) >= 4+n {
				clear(frame[:tap.HeaderSize])
				copy(frame[tap.HeaderSize:], s.buffer[4:4+n])
				s.buffer = s.buffer[4+n:]
				return tap.HeaderSize + n, nil
			}
		}
		whole := make([]byte, len(s.buffer), 1<<18)
		if cap(s.buffer)-len(s.buffer) < 1<<17 {
			copy(whole, s.buffer)
			s.buffer = whole
		}
		n, err := s.conn.Read(s.buffer[len(s.buffer):cap(s.buffer)])
		if err != nil {
			return 0, err
		}
		s.buffer = s.buffer[:len(s.buffer)+n]
	}
}

func (s *stream) write(frame []byte) error {
	s.out = append(binary.BigEndian.AppendUint32(s.out[:0], uint32(len(frame)-tap.HeaderSize)), frame[tap.HeaderSize:]...)
	_, err := s.conn.Write(s.out)
	return err
}

func (s *sharing) pump(card *os.File, frames link) {
	var both sync.WaitGroup
	both.Go(func() {
		for frame := make([]byte, tap.HeaderSize+1<<17); ; {
			n, err := card.Read(frame)
			if err != nil || frames.write(frame[:n]) != nil {
				return
			}
		}
	})
	both.Go(func() {
		for frame := make([]byte, tap.HeaderSize+1<<17); ; {
			n, err := frames.read(frame)
			if err != nil {
				return
			}
			_, _ = card.Write(frame[:n])
		}
	})
	s.ends = slices.Insert(s.ends, 0, both.Wait) // once either is closed
}

// processor is the processor time, in seconds, of this process, of passt or QEMU, and of what the kernel has left over.
func (s *sharing) processor() float64 {
	s.b.Helper()
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		s.b.Fatal(err)
	}
	seconds := time.Duration(own.Utime.Nano() + own.Stime.Nano()).Seconds()
	threads, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		s.b.Fatal(err)
	}
	threads = slices.DeleteFunc(threads, func(path string) bool {
		name, err := os.ReadFile(path)
		return err != nil || !strings.HasPrefix(string(name), "ksoftirqd/")
	})
	if s.process != nil {
		of, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", s.process.Process.Pid))
		if err != nil {
			s.b.Fatal(err)
		}
		threads = append(threads, of...)
	}
	for _, path := range threads {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "schedstat"))
		var ran int64
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &ran); err == nil {
			seconds += time.Duration(ran).Seconds()
		}
	}
	return seconds
}

// timeouts is how often the guest's TCP has sent again what nobody acknowledged in time: a stream stands still for 200 ms and
// more each time.
func (s *sharing) timeouts() (n int) {
	s.b.Helper()
	err := s.guest.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		// Lines are in pairs: names, and then values.
		var names []string
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if i := slices.Index(names, "TCPTimeouts"); i >= 0 && len(fields) == len(names) && fields[0] == names[0] {
				n, err = strconv.Atoi(fields[i])
				return err
			}
			names = fields
		}
		return errors.New("the kernel does not count TCPTimeouts")
	})
	if err != nil {
		s.b.Fatal(err)
	}
	return n
}

// serve accepts one connection at the guest's port.
func (s *sharing) serve(in *pod.Namespace, handle func(net.Conn) error) (done <-chan error) {
	s.b.Helper()
	var listener net.Listener
	err := in.Do(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", guestPort))
		return err
	})
	if err != nil {
		s.b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		defer listener.Close()
		conn, err := listener.Accept()
		if err == nil {
			err = errors.Join(handle(conn), conn.Close())
		}
		ended <- err
	}()
	return ended
}

func (s *sharing) dial(from *pod.Namespace, to string) net.Conn {
	s.b.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := from.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", to, guestPort))
		cancel()
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			s.b.Fatal(err)
		}
	}
}

// stream sends from one to the other, and returns the bytes in a second until all has arrived.
func (s *sharing) stream(from, to *pod.Namespace, address string) float64 {
	s.b.Helper()
	ended := s.serve(to, func(conn net.Conn) error {
		n, err := io.Copy(io.Discard, struct{ io.Reader }{conn})
		if err == nil && n != int64(s.bytes) {
			err = fmt.Errorf("%d bytes have arrived", n)
		}
		return err
	})
	conn := s.dial(from, address)
	began := time.Now()
	chunk := make([]byte, 1<<18)
	for range s.bytes / len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			s.b.Fatal(err)
		}
	}
	conn.Close()
	if err := <-ended; err != nil {
		s.b.Fatal(err)
	}
	return float64(s.bytes) / time.Since(began).Seconds()
}

// pingPong has the guest send back each byte.
func (s *sharing) pingPong() (times []time.Duration) {
	s.b.Helper()
	ended := s.serve(s.guest, func(conn net.Conn) error {
		for one := make([]byte, 1); ; {
			if _, err := conn.Read(one); err != nil {
				return nil
			}
			if _, err := conn.Write(one); err != nil {
				return err
			}
		}
	})
	conn := s.dial(s.node, "10.244.1.5")
	one := make([]byte, 1)
	for range roundTrips {
		began := time.Now()
		_, err := conn.Write(one)
		if err == nil {
			_, err = conn.Read(one)
		}
		if err != nil {
			s.b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	conn.Close()
	if err := <-ended; err != nil {
		s.b.Fatal(err)
	}
	return times
}
