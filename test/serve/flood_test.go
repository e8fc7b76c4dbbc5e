package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/shapes/tap"
)

// The flood, and what the server may need for it.
const (
	floodRate = 50_000 // frames a second
	// answerWithin is the requirement itself.
	answerWithin = time.Second
	// maxResident is in KiB. What the server needs after 100,000 exchanges is less; a queue without bound is far more.
	maxResident = 24 << 10
)

// floodTime is longer where there is time to soak.
func floodTime() time.Duration {
	if os.Getenv("PODNIC_SOAK") != "" {
		return 20 * time.Second
	}
	return 3 * time.Second
}

// overlong is a message with a hostname that runs over the end.
var overlong = []byte{53, 1, 1, 12, 255, 'x'}

// malformed are frames that a hostile guest may send, by what is wrong with them.
func malformed(mac net.HardwareAddr) map[string][]byte {
	edit := func(f []byte, at int, b ...byte) []byte {
		f = slices.Clone(f)
		copy(f[at:], b)
		return f
	}
	const bootp = wire.EthernetLen + wire.IPLen + wire.UDPLen
	good := wire.Request(mac, 1, wire.Discover...)
	other := wire.Request(net.HardwareAddr{2, 0, 0, 0, 0, 9}, 1, wire.Discover...)
	arp := append(good[:12:12], 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	return map[string][]byte{
		"a message of zero bytes":         edit(good, wire.EthernetLen+wire.IPLen+4, 0, 8),
		"truncated":                       good[:bootp+100],
		"an IP header of 60 bytes":        edit(good, wire.EthernetLen, 0x4f),
		"a fragment":                      edit(good, wire.EthernetLen+6, 0x20, 0),
		"a wrong IP checksum":             edit(good, wire.EthernetLen+10, 1, 2),
		"a wrong UDP checksum":            edit(good, bootp+5, 77),
		"another MAC":                     other,
		"a cookie of something else":      edit(good, bootp+236, 1, 2, 3, 4),
		"an option over the end":          wire.Request(mac, 2, append(slices.Clone(overlong), make([]byte, 54)...)...),
		"a message type of two bytes":     wire.Request(mac, 3, 53, 2, 1, 1, 255),
		"a server identifier of a byte":   wire.Request(mac, 4, 53, 1, 3, 54, 1, 1, 255),
		"a request for nothing":           wire.Request(mac, 5, 53, 1, 3, 255),
		"an unknown message":              wire.Request(mac, 6, 53, 1, 77, 255),
		"a relayed message":               edit(good, bootp+24, 10, 0, 0, 1),
		"a message of 1,442 bytes":        wire.Request(mac, 7, append([]byte{224, 250}, make([]byte, 1200)...)...),
		"a tag":                           slices.Insert(slices.Clone(good), 12, 0x81, 0, 0, 5),
		"tags in a tag":                   slices.Insert(slices.Clone(good), 12, 0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0),
		"half an ARP packet":              arp,
		"ARP for another kind of network": append(slices.Clone(arp), make([]byte, 40)...),
		"nothing but a header":            good[:wire.EthernetLen],
	}
}

// memory is the resident memory of a process in KiB.
func memory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("process %d has no memory", pid)
	return 0
}

// TestFloodNeitherStopsNorGrowsTheServer sends malformed frames as fast as the requirement says, and now and then a
// valid DISCOVER, as a client would: it is repeated until it is answered, within a second of the first one.
func TestFloodNeitherStopsNorGrowsTheServer(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, mode, shapes[0])
			server := s.serve()
			mac, err := net.ParseMAC(s.mac)
			if err != nil {
				t.Fatal(err)
			}
			emulator := s.open(s.pod.Namespace, "tap0")
			offers := make(chan uint32, 1000)
			go func() {
				frame := make([]byte, tap.HeaderSize+1<<16)
				for {
					n, err := emulator.Read(frame)
					if err != nil {
						return
					}
					if m, ok := wire.Parse(frame[tap.HeaderSize:n]); ok && m.Name() == "OFFER" {
						select {
						case offers <- m.XID:
						default:
						}
					}
				}
			}()
			send := func(frame []byte) {
				if _, err := emulator.Write(append(make([]byte, tap.HeaderSize, tap.HeaderSize+len(frame)), frame...)); err != nil {
					t.Fatal(err)
				}
			}
			var frames [][]byte
			for _, f := range malformed(mac) {
				frames = append(frames, append(make([]byte, tap.HeaderSize, tap.HeaderSize+len(f)), f...))
			}
			before := memory(t, server.cmd.Process.Pid)

			const (
				first  = 0x50000000
				retry  = 100 * time.Millisecond
				resume = 250 * time.Millisecond
			)
			var (
				begin            = time.Now()
				asked, last      time.Time
				xid              = uint32(first)
				answered         int
				slowest          time.Duration
				largest, refused int
			)
			total := int(floodTime().Seconds() * floodRate)
			for sent := 0; sent < total; sent++ {
				if _, err := emulator.Write(frames[sent%len(frames)]); err != nil {
					refused++ // by the kernel: not even a frame
				}
				if sent%50 != 0 {
					continue
				}
				now := time.Now()
				switch {
				case asked.IsZero() && now.Sub(last) > resume:
					xid++
					asked, last = now, now
					send(wire.Request(mac, xid, wire.Discover...))
				case !asked.IsZero() && now.Sub(last) > retry:
					last = now
					send(wire.Request(mac, xid, wire.Discover...))
				}
				for more := true; more; {
					select {
					case got := <-offers:
						if got == xid && !asked.IsZero() {
							slowest, answered = max(slowest, now.Sub(asked)), answered+1
							asked = time.Time{}
						}
					default:
						more = false
					}
				}
				if !asked.IsZero() && now.Sub(asked) > answerWithin {
					t.Fatalf("a DISCOVER was not answered within %s, after %d frames", answerWithin, sent)
				}
				if sent%10_000 == 0 {
					largest = max(largest, memory(t, server.cmd.Process.Pid))
				}
				if ahead := time.Duration(sent)*time.Second/floodRate - now.Sub(begin); ahead > 0 {
					time.Sleep(ahead) // this is the rate, not a wait for something
				}
			}
			took := time.Since(begin)
			t.Logf("%.0f frames a second, %d answers, the slowest after %s; %d KiB before, %d at most",
				float64(total-refused)/took.Seconds(), answered, slowest.Round(time.Microsecond), before, largest)
			if answered == 0 {
				t.Error("no DISCOVER was answered")
			}
			if largest > maxResident {
				t.Errorf("the server grew from %d to %d KiB", before, largest)
			}
			// 100 in a row and 20 a second are let through (package dhcp), and each may be logged twice.
			if lines, most := len(server.text()), 2*(100+20*int(took.Seconds()+2)); lines > most {
				t.Errorf("%d lines in the log, at most %d are expected", lines, most)
			}
			if status := server.end(syscall.SIGTERM); status != 0 {
				t.Errorf("podnic serve: exit status %d", status)
			}
		})
	}
}

// TestReloadReadsResolvConfAndFileAgain changes the pod's resolver configuration and podnic's own under a server.
func TestReloadReadsResolvConfAndFileAgain(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(s.state, "podnic.yaml"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("hostname: first\nmtu: 1300\n")
			server := s.serve("--config", filepath.Join(s.seen(), "podnic.yaml"))
			path := fmt.Sprintf("/proc/%d/root/etc/resolv.conf", server.cmd.Process.Pid)
			if err := os.WriteFile(path, []byte("nameserver 10.96.0.53\nnameserver ::1\nsearch .\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			write("hostname: second\n")
			server.signal(syscall.SIGHUP)
			server.says("configuration read again")
			s.warned("::1")
			write("mtu: many\n")
			server.signal(syscall.SIGHUP)
			server.says("cannot be used, so the old one stays")
			e := shapes[0].expect(s)
			guest := s.plug().run(clients[0], e)
			guest.sees("bound", []string{"ip=" + e.address, "dns=10.96.0.53", "hostname=second", fmt.Sprint("mtu=", mtu)})
		})
	}
}

// TestServerOfThePodNetworkIsNeverHeard has a DHCP server and a client of it beside the pod, which talk by broadcast.
func TestServerOfThePodNetworkIsNeverHeard(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			s.serve()
			e := shapes[0].expect(s)
			cable := s.plug()
			dir := t.TempDir()
			config := "interface cni0\nstart 10.244.2.100\nend 10.244.2.110\noption subnet 255.255.255.0\n" +
				"lease_file " + dir + "/leases\npidfile " + dir + "/pid\n"
			for name, text := range map[string]string{"conf": config, "leases": ""} {
				if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			beside, err := s.node.AddNamespace("beside")
			if err != nil {
				t.Fatal(err)
			}
			s.in(s.node.Namespace, "ip link add beside type veth peer name eth0 netns "+beside.Name+
				"\nip link set beside master cni0 up\nip -n "+beside.Name+" link set eth0 up")
			in := func(name string, command ...string) *daemon {
				return start(t, command[1], nsenter(name, command...))
			}
			in(s.node.Path, "busybox", "udhcpd", "-f", dir+"/conf")

			guest := cable.run(clients[0], e)
			guest.sees("bound", clients[0].view(e)[:1])
			// With -B it asks for answers by broadcast, which reach every port of the node's bridge.
			other := in(beside.Path, "busybox", "udhcpc", "-f", "-q", "-B", "-i", "eth0", "-T", "1", "-s", "/bin/true")
			other.says("lease of 10.244.2.1")
			s.wire.onlyTheGuest(s.mac, cable.mark)
			s.in(cable.guest, "ping -c 1 -W 5 "+e.gateway) // behind which there is nothing of the exchange left on its way
			for _, line := range cable.conversation() {
				if strings.HasPrefix(line, "server") && !strings.HasSuffix(line, "by "+e.server) {
					t.Errorf("the guest heard: %s", line)
				}
			}
		})
	}
}

// TestMissingSettingIsNamedByStatus leaves out one of the settings that UDP mode needs.
func TestMissingSettingIsNamedByStatus(t *testing.T) {
	for name, unset := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "1024",
		"net.ipv4.conf.all.accept_local":      "0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "udp", shapes[0])
			s.set(name, unset)
			server := s.start()
			s.warned(name)
			if name == "net.ipv4.ip_unprivileged_port_start" {
				<-server.done
				if s.status().Phase != "failed" {
					t.Errorf("the status is %+v", s.status())
				}
			}
		})
	}
}
