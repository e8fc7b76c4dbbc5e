package serve

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// checksum is the Internet checksum (RFC 1071).
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// request is a frame with a DHCP message from the guest to everybody.
func request(mac net.HardwareAddr, xid uint32, options ...byte) []byte {
	b := make([]byte, bootpLen, 300)
	b[0], b[1], b[2] = 1, 1, 6
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[28:], mac)
	binary.BigEndian.PutUint32(b[236:], 0x63825363)
	b = append(b, options...)
	b = append(b, make([]byte, max(0, 300-len(b)))...)

	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	f = append(f, 8, 0, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(ipLen+udpLen+len(b)))
	f = append(f, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255)
	f = append(f, 0, 68, 0, 67)
	f = binary.BigEndian.AppendUint16(f, uint16(udpLen+len(b)))
	f = append(append(f, 0, 0), b...)
	ip := f[ethernetLen:]
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip[:ipLen]))
	// The pseudo header: 0.0.0.0, 255.255.255.255, the protocol and the length.
	sum := checksum(2*0xffff+unix.IPPROTO_UDP+uint32(udpLen+len(b)), ip[ipLen:])
	binary.BigEndian.PutUint16(ip[ipLen+6:], sum)
	return f
}

// Messages as options: 53 with the type, then the rest.
var (
	discover = []byte{53, 1, 1, 255}
	overlong = []byte{53, 1, 1, 12, 255, 'x'} // a hostname that runs over the end
)

// malformed are frames that a hostile guest may send, by what is wrong with them.
func malformed(mac net.HardwareAddr) map[string][]byte {
	edit := func(f []byte, at int, b ...byte) []byte {
		f = slices.Clone(f)
		copy(f[at:], b)
		return f
	}
	const bootp = ethernetLen + ipLen + udpLen
	good := request(mac, 1, discover...)
	other := request(net.HardwareAddr{2, 0, 0, 0, 0, 9}, 1, discover...)
	arp := append(good[:12:12], 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	return map[string][]byte{
		"a message of zero bytes":         edit(good, ethernetLen+ipLen+4, 0, 8),
		"truncated":                       good[:bootp+100],
		"an IP header of 60 bytes":        edit(good, ethernetLen, 0x4f),
		"a fragment":                      edit(good, ethernetLen+6, 0x20, 0),
		"a wrong IP checksum":             edit(good, ethernetLen+10, 1, 2),
		"a wrong UDP checksum":            edit(good, bootp+5, 77),
		"another MAC":                     other,
		"a cookie of something else":      edit(good, bootp+236, 1, 2, 3, 4),
		"an option over the end":          request(mac, 2, append(slices.Clone(overlong), make([]byte, 54)...)...),
		"a message type of two bytes":     request(mac, 3, 53, 2, 1, 1, 255),
		"a server identifier of a byte":   request(mac, 4, 53, 1, 3, 54, 1, 1, 255),
		"a request for nothing":           request(mac, 5, 53, 1, 3, 255),
		"an unknown message":              request(mac, 6, 53, 1, 77, 255),
		"a relayed message":               edit(good, bootp+24, 10, 0, 0, 1),
		"a message of 1,442 bytes":        request(mac, 7, append([]byte{224, 250}, make([]byte, 1200)...)...),
		"a tag":                           slices.Insert(slices.Clone(good), 12, 0x81, 0, 0, 5),
		"tags in a tag":                   slices.Insert(slices.Clone(good), 12, 0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0),
		"half an ARP packet":              arp,
		"ARP for another kind of network": append(slices.Clone(arp), make([]byte, 40)...),
		"nothing but a header":            good[:ethernetLen],
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
				frame := make([]byte, headerSize+1<<16)
				for {
					n, err := emulator.Read(frame)
					if err != nil {
						return
					}
					if m, ok := parse(frame[headerSize:n]); ok && kinds[m.kind] == "OFFER" {
						select {
						case offers <- m.xid:
						default:
						}
					}
				}
			}()
			send := func(frame []byte) {
				if _, err := emulator.Write(append(make([]byte, headerSize, headerSize+len(frame)), frame...)); err != nil {
					t.Fatal(err)
				}
			}
			var frames [][]byte
			for _, f := range malformed(mac) {
				frames = append(frames, append(make([]byte, headerSize, headerSize+len(f)), f...))
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
					send(request(mac, xid, discover...))
				case !asked.IsZero() && now.Sub(last) > retry:
					last = now
					send(request(mac, xid, discover...))
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

// TestReloadReadsResolvConfAgain changes the pod's resolver configuration under a server.
func TestReloadReadsResolvConfAgain(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			server := s.serve()
			path := fmt.Sprintf("/proc/%d/root/etc/resolv.conf", server.cmd.Process.Pid)
			if err := os.WriteFile(path, []byte("nameserver 10.96.0.53\nnameserver ::1\nsearch .\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			server.signal(syscall.SIGHUP)
			server.says("configuration read again")
			s.warned("::1")
			e := shapes[0].expect(s)
			guest := s.plug().run(clients[0], e)
			guest.sees("bound", []string{"ip=" + e.address, "dns=10.96.0.53"})
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
