package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// dhcpServer is a DHCP server on a pod's wiring, with the guest's end of the tap.
type dhcpServer struct {
	b    testing.TB
	name string
	node *pod.Node
	pod  *pod.Pod
	mac  net.HardwareAddr
	tap  *os.File
	xid  uint32
	// command is the server as it is started in the pod's namespace.
	command []string
	// says is a part of the line by which it tells that it can be asked.
	says string
	cmd  *exec.Cmd
	// buffers of frames
	in, out []byte
}

// dhcpPatience is how long an answer is waited for, dhcpTries how often it is asked for.
const (
	dhcpPatience = time.Second
	dhcpTries    = 5
)

// dhcpStart is how long a server has for whatever its start leaves to do.
const dhcpStart = time.Second

// dhcpKinds are the servers that are compared. dnsmasq has the wiring of podnic's UDP mode, since it needs a bridge with an
// address and with ARP; what it would do besides DHCP is off, and it neither pings an address before it offers it nor
// writes a file of leases.
func dhcpKinds(b *testing.B) []string {
	kinds := []string{"podnic", "podnic-udp"}
	if earlier() != "" {
		kinds = append(kinds, "earlier", "earlier-udp")
	}
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		b.Log("there is no dnsmasq (package dnsmasq-base) to compare with")
		return kinds
	}
	return append(kinds, "dnsmasq")
}

// newDHCPServer makes a pod and wires it for a server, which it does not start.
func newDHCPServer(b testing.TB, name string) *dhcpServer {
	b.Helper()
	podtest.NeedRoot(b)
	program := podtest.Program(b)
	if strings.HasPrefix(name, "earlier") {
		program = earlier()
	}
	s := &dhcpServer{b: b, name: name, node: podtest.Node(b), in: make([]byte, tap.HeaderSize+1<<16)}
	name, both := strings.CutSuffix(name, dual)
	network, ipv6 := pod.Bridge, ""
	if both {
		network, ipv6 = network.Dual(), " --ipv6 serve"
	}
	s.pod = podtest.Pod(b, s.node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network})
	state := filepath.Join(memoryDir(b), "state")
	s.run("cat /sys/class/net/eth0/address", func(out string) (err error) {
		s.mac, err = net.ParseMAC(strings.TrimSpace(out))
		return err
	})
	for _, setting := range []string{"ip_unprivileged_port_start=0", "conf.all.accept_local=1"} {
		key, value, _ := strings.Cut(setting, "=")
		s.run("echo "+value+" >/proc/sys/net/ipv4/"+strings.ReplaceAll(key, ".", "/"), nil)
	}
	socket := "udp"
	if name == "podnic" || name == "earlier" {
		socket = "packet"
	}
	if name == "dnsmasq" && both {
		ipv6 = " --ipv6 pass"
	}
	s.run(program+" prepare --socket "+socket+ipv6+" --state-dir "+state, nil)
	s.command = []string{program, "serve", "--state-dir", state, "--log-format", "json"}
	s.says = `"msg":"serving"`
	if name == "dnsmasq" && both {
		s.dnsmasq6()
	} else if name == "dnsmasq" {
		s.run("ip address add "+s.pod.Gateway.String()+"/24 dev eth0-br", nil)
		s.command = []string{
			"dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--user=root", "--pid-file=",
			"--port=0", "--interface=eth0-br", "--bind-interfaces", "--except-interface=lo", "--leasefile-ro", "--no-ping",
			"--dhcp-authoritative", "--quiet-dhcp",
			fmt.Sprintf("--dhcp-range=%s,static,255.255.255.0,infinite", s.pod.Address.Masked().Addr()),
			fmt.Sprintf("--dhcp-host=%s,%s,vm-0,infinite", s.mac, s.pod.Address.Addr()),
			"--dhcp-option=6,10.96.0.10", "--dhcp-option=119,default.svc.cluster.local,svc.cluster.local,cluster.local",
			"--dhcp-option=26,1500",
		}
		s.says = "sockets bound exclusively to interface"
	}
	return s
}

// newDHCPServers makes one of each kind.
func newDHCPServers(b *testing.B) (all []*dhcpServer) {
	b.Helper()
	for _, name := range dhcpKinds(b) {
		all = append(all, newDHCPServer(b, name))
	}
	return all
}

// run runs a shell script in the pod's namespace and reads what it prints.
func (s *dhcpServer) run(script string, read func(string) error) {
	s.b.Helper()
	out, err := s.pod.Output(s.b.Context(), "unshare", "--mount", "sh", "-e", "-c", "mount -t sysfs sysfs /sys\n"+script)
	if err == nil && read != nil {
		err = read(out)
	}
	if err != nil {
		s.b.Fatal(err)
	}
}

// start starts the server as a child of this process, with nothing between them, and returns how long it took until it
// said that it can be asked.
func (s *dhcpServer) start() time.Duration {
	s.b.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.b.Fatal(err)
	}
	defer write.Close()
	s.cmd = exec.CommandContext(context.Background(), s.command[0], s.command[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = write, write
	var began time.Time
	err = s.pod.Do(func() error {
		began = time.Now()
		return s.cmd.Start()
	})
	if err != nil {
		s.b.Fatal(err)
	}
	cmd := s.cmd
	s.b.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		read.Close()
	})
	write.Close()
	var said []string
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		if strings.Contains(lines.Text(), s.says) {
			took := time.Since(began)
			go func() {
				for lines.Scan() { // so that it can go on saying things
				}
			}()
			return took
		}
		said = append(said, lines.Text())
	}
	s.b.Fatalf("%s does not say %q: %s", s.name, s.says, strings.Join(said, "\n"))
	return 0
}

// stop ends the server.
func (s *dhcpServer) stop() {
	s.b.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.b.Fatal(err)
	}
	_ = s.cmd.Wait() // its status is not what is measured
}

// plug opens the tap as an emulator does.
func (s *dhcpServer) plug() {
	s.b.Helper()
	err := s.pod.Do(func() (err error) {
		s.tap, err = tap.Open("tap0")
		return err
	})
	if err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(func() { s.tap.Close() })
}

// exchange is DISCOVER to ACK, as a guest would.
func (s *dhcpServer) exchange() time.Duration {
	s.b.Helper()
	s.xid++
	// Asked for by the options that a Linux guest wants.
	requested := []byte{55, 9, 1, 3, 6, 12, 15, 26, 28, 119, 121}
	discover := append(append([]byte{53, 1, 1}, requested...), 255)
	began := time.Now()
	offer := s.ask(wire.Request(s.mac, s.xid, discover...), "OFFER")
	request := wire.Select(offer.Gives, offer.Server)
	request = append(append(request[:len(request)-1], requested...), 255)
	ack := s.ask(wire.Request(s.mac, s.xid, request...), "ACK")
	took := time.Since(began)
	if ack.Gives != s.pod.Address.Addr() {
		s.b.Fatalf("%s gave %s, and the pod's address is %s", s.name, ack.Gives, s.pod.Address)
	}
	return took
}

// ask sends a message and waits for the answer to it.
func (s *dhcpServer) ask(frame []byte, answer string) (m wire.Message) {
	s.b.Helper()
	s.until(frame, answer, func(frame []byte) (ok bool) {
		m, ok = wire.Parse(frame)
		return ok && m.XID == s.xid && m.Name() == answer
	})
	return m
}

// until sends a frame and reads what comes back until it is the answer. It is repeated as clients do: a tap loses what is sent to
// it in the moment after it was opened.
func (s *dhcpServer) until(frame []byte, answer any, is func(frame []byte) bool) {
	s.b.Helper()
	for range dhcpTries {
		s.send(frame)
		if err := s.tap.SetReadDeadline(time.Now().Add(dhcpPatience)); err != nil {
			s.b.Fatal(err)
		}
		for {
			n, err := s.tap.Read(s.in)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				s.b.Fatal(err)
			}
			if is(s.in[tap.HeaderSize:n]) {
				return
			}
		}
	}
	s.b.Fatalf("%s does not answer with %v", s.name, answer)
}

// send puts a frame on the tap.
func (s *dhcpServer) send(frame []byte) {
	s.out = append(append(s.out[:0], make([]byte, tap.HeaderSize)...), frame...)
	if _, err := s.tap.Write(s.out); err != nil {
		s.b.Fatal(err)
	}
}

// tasks adds up what a function reads in each thread's file.
func (s *dhcpServer) tasks(name string, read func(text string) int64) (sum int64) {
	s.b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", s.cmd.Process.Pid, name))
	if err != nil || len(files) == 0 {
		s.b.Fatalf("process %d has no threads (%v)", s.cmd.Process.Pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			s.b.Fatal(err)
		}
		sum += read(string(text))
	}
	return sum
}

// cpu is the processor time that the server's threads had so far.
func (s *dhcpServer) cpu() time.Duration {
	s.b.Helper()
	return time.Duration(s.tasks("schedstat", func(text string) int64 { return number(s.b, strings.Fields(text)[0]) }))
}

// switches is how often its threads were switched to, for whatever reason.
func (s *dhcpServer) switches() int64 {
	s.b.Helper()
	return s.tasks("status", func(text string) int64 {
		return field(s.b, text, "voluntary_ctxt_switches:") + field(s.b, text, "nonvoluntary_ctxt_switches:")
	})
}

// field is the number behind a name that begins a line.
func field(b testing.TB, text, name string) int64 {
	b.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return number(b, strings.Fields(rest)[0])
		}
	}
	b.Fatalf("no %s in %s", name, text)
	return 0
}

func number(b testing.TB, text string) int64 {
	b.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// reportTimes reports what half of the operations took at most, and what all but a hundredth of them did.
func reportTimes(b *testing.B, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	percentile := func(p int) float64 { return float64(times[min(len(times)-1, len(times)*p/100)]) }
	b.ReportMetric(percentile(50), "p50-ns/op")
	b.ReportMetric(percentile(99), "p99-ns/op")
	b.ReportMetric(0, "ns/op") // a mean, and of more than the operation
}

// reportMemory reports medians.
func reportMemory(b *testing.B, resident, anonymous []float64) {
	b.Helper()
	b.ReportMetric(middle(resident), "rss-B")
	b.ReportMetric(middle(anonymous), "anon-B")
	b.ReportMetric(0, "ns/op")
}

// rounds does for each iteration of a benchmark what concerns all servers, less the rounds that another benchmark had done.
func rounds(b *testing.B, all []*dhcpServer, done int, round func()) {
	b.Helper()
	for _, s := range all {
		s.b = b
	}
	for n := 0; b.Loop(); n++ {
		if n >= done {
			round()
		}
	}
}

// BenchmarkDHCPExchange is DISCOVER to ACK and what it costs the server. The servers are asked in turn, so that what else
// the machine does meets all of them alike: the first of the benchmarks asks, and the others report of the same exchanges.
// The processor time is that of one message of the guest, of which an exchange has two.
func BenchmarkDHCPExchange(b *testing.B) { exchanges(b, newDHCPServers(b), (*dhcpServer).exchange) }

func exchanges(b *testing.B, all []*dhcpServer, exchange func(*dhcpServer) time.Duration) {
	b.Helper()
	for _, s := range all {
		s.start()
		s.plug()
	}
	time.Sleep(dhcpStart)
	for range 200 { // the first ones are others: pages and caches are filled, and what is logged has an end
		for _, s := range all {
			exchange(s)
		}
	}
	times, cpu := make([][]time.Duration, len(all)), make([]time.Duration, len(all))
	for i, reported := range all {
		b.Run(reported.name, func(b *testing.B) {
			before := make([]time.Duration, len(all))
			for k, s := range all {
				before[k] = s.cpu()
			}
			rounds(b, all, len(times[i]), func() {
				for k, s := range inTurn(all) {
					times[k] = append(times[k], exchange(s))
				}
			})
			for k, s := range all {
				cpu[k] += s.cpu() - before[k]
			}
			b.ReportMetric(float64(cpu[i])/float64(2*len(times[i])), "cpu-ns/op")
			reportTimes(b, slices.Clone(times[i]))
		})
	}
}

// BenchmarkDHCPReady is from the start of the process to its word that it can be asked. podnic says so when its socket is
// open with the filter in place. The servers are started in turn: the first of the benchmarks does, and the others report
// of the same starts.
func BenchmarkDHCPReady(b *testing.B) {
	all := newDHCPServers(b)
	times := make([][]time.Duration, len(all))
	for i, reported := range all {
		b.Run(reported.name, func(b *testing.B) {
			rounds(b, all, len(times[i]), func() {
				for k, s := range inTurn(all) {
					times[k] = append(times[k], s.start())
					s.stop()
					time.Sleep(10 * time.Millisecond) // the kernel has yet to free what the socket had
				}
			})
			reportTimes(b, slices.Clone(times[i]))
		})
	}
}

// BenchmarkDHCPRest is what a server has in memory before the guest comes. Each iteration starts them all at once, to wait
// once for what their start leaves to do: the first of the benchmarks does, and the others report of the same servers.
func BenchmarkDHCPRest(b *testing.B) { rests(b, newDHCPServers(b), dhcpStart) }

func rests(b *testing.B, all []*dhcpServer, start time.Duration) {
	b.Helper()
	resident, anonymous := make([][]float64, len(all)), make([][]float64, len(all))
	for i, reported := range all {
		b.Run(reported.name, func(b *testing.B) {
			rounds(b, all, len(resident[i]), func() {
				for _, s := range inTurn(all) {
					s.start()
				}
				time.Sleep(start)
				for k, s := range all {
					resident[k] = append(resident[k], memory(b, s.cmd.Process.Pid, "Rss"))
					anonymous[k] = append(anonymous[k], memory(b, s.cmd.Process.Pid, "Anonymous"))
					s.stop()
				}
			})
			reportMemory(b, resident[i], anonymous[i])
		})
	}
}

// BenchmarkDHCPIdle is what wakes a server that has nothing to do: while the guest is silent, and while it moves a GiB. All
// guests are silent together, and then each moves its own.
func BenchmarkDHCPIdle(b *testing.B) {
	const silence = 10 * time.Second
	all := newDHCPServers(b)
	for _, s := range all {
		s.start()
		s.plug()
	}
	time.Sleep(dhcpStart)
	for _, s := range all {
		s.exchange()
		s.settle()
	}
	silent, busy := make([]int64, len(all)), make([]int64, len(all))
	for i, s := range all {
		silent[i] = -s.switches()
	}
	time.Sleep(silence) // this is what is measured
	for i, s := range all {
		silent[i] += s.switches()
		busy[i] = -s.switches()
		s.bulk()
		busy[i] += s.switches()
	}
	for i, s := range all {
		b.Run(s.name, func(b *testing.B) {
			b.ReportMetric(float64(silent[i])/silence.Seconds(), "wakeups/s")
			b.ReportMetric(float64(busy[i]), "switches/GiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// settle waits until the server has done what the last exchange left it to do: no thread of it was switched to for a while.
func (s *dhcpServer) settle() {
	s.b.Helper()
	const quiet = 500 * time.Millisecond
	for deadline := time.Now().Add(dhcpTries * dhcpPatience); ; {
		before := s.switches()
		time.Sleep(quiet)
		if s.switches() == before {
			return
		}
		if time.Now().After(deadline) {
			s.b.Logf("%s does not come to rest", s.name)
			return
		}
	}
}

// bulk moves a GiB: half of it from the guest to its gateway, half of it the other way, in datagrams as large as the MTU
// allows.
func (s *dhcpServer) bulk() {
	s.b.Helper()
	const size, each = 1 << 30, 1500 - wire.IPLen - wire.UDPLen
	payload := make([]byte, each)
	address := s.pod.Address.Addr()
	out, err := s.node.Output(s.b.Context(), "ip", "-json", "link", "show", "cni0")
	if err != nil {
		s.b.Fatal(err)
	}
	var links []struct{ Address string }
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		s.b.Fatalf("%v: %s", err, out)
	}
	gateway, err := net.ParseMAC(links[0].Address)
	if err != nil {
		s.b.Fatal(err)
	}
	// The guest has no one who answers ARP.
	if _, err := s.node.Output(s.b.Context(), "ip", "neighbour", "replace", address.String(), "lladdr", s.mac.String(), "dev", "cni0"); err != nil {
		s.b.Fatal(err)
	}
	conn, err := s.node.DialContext(s.b.Context(), "udp4", netip.AddrPortFrom(address, discard).String())
	if err != nil {
		s.b.Fatal(err)
	}
	defer conn.Close()
	frame := wire.UDP(wire.Station{MAC: s.mac, IP: address, Port: discard}, wire.Station{MAC: gateway, IP: s.pod.Gateway, Port: discard}, payload)

	if err := s.tap.SetReadDeadline(time.Time{}); err != nil {
		s.b.Fatal(err)
	}
	received := make(chan int, 1)
	go func() {
		sum, frame := 0, make([]byte, tap.HeaderSize+1<<16)
		for {
			n, err := s.tap.Read(frame)
			if err != nil {
				received <- sum
				return
			}
			sum += n
		}
	}()
	for sent := 0; sent < size; sent += 2 * each {
		s.send(frame)
		if _, err := conn.Write(payload); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			s.b.Fatal(err)
		}
	}
	if err := s.tap.SetReadDeadline(time.Now()); err != nil {
		s.b.Fatal(err)
	}
	if sum := <-received; sum < size/4 {
		s.b.Fatalf("only %d bytes came in at the guest", sum)
	}
}

// discard is the port of nobody.
const discard = 9

// BenchmarkDHCPMemory is what a server has in memory after 100,000 exchanges. They are had in turn: one guest alone would ask
// more often than podnic answers (docs/dhcp.md).
func BenchmarkDHCPMemory(b *testing.B) {
	all := newDHCPServers(b)
	for _, s := range all {
		s.start()
		s.plug()
	}
	for range 100_000 {
		for _, s := range all {
			s.exchange()
		}
	}
	for _, s := range all {
		b.Run(s.name, func(b *testing.B) {
			pid := s.cmd.Process.Pid
			reportMemory(b, []float64{memory(b, pid, "Rss")}, []float64{memory(b, pid, "Anonymous")})
		})
	}
}
