package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// The flood, and what the server may need for it.
const (
	floodRate = 50_000 // frames a second
	// answerWithin is the requirement itself.
	answerWithin = time.Second
	// maxResident is in KiB. What the server needs after 100,000 exchanges is less; a queue without bound is far more.
	maxResident = 16 << 10
)

// floodTime is the requirement's own where it counts most, and everywhere where there is time to soak.
func floodTime(mode string, valid bool) time.Duration {
	if os.Getenv("PODNIC_SOAK") != "" || mode == "packet" && !valid {
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

// processor is the processor time of a process and its threads, and the time for which they waited to have it.
func processor(t *testing.T, pid int) (had, waited time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		var ran, queued time.Duration // Documentation/scheduler/sched-stats.rst
		if _, err := fmt.Sscan(string(text), &ran, &queued); err != nil {
			t.Fatal(err)
		}
		had, waited = had+ran, waited+queued
	}
	return had, waited
}

// waiting is for how long the server and this process have waited for a processor that others had.
func waiting(t *testing.T, server int) time.Duration {
	t.Helper()
	_, theirs := processor(t, server)
	_, ours := processor(t, os.Getpid())
	return theirs + ours
}

// TestFloodNeitherStopsNorGrowsTheServer sends malformed frames as fast as the requirement says, and now and then a
// valid DISCOVER, as a client would: it is repeated until it is answered, within a second of the first one.
func TestFloodNeitherStopsNorGrowsTheServer(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			flood(t, mode, false, "OFFER", wire.Discover)
		})
	}
}

// TestFloodOfOneMessageLeavesRoomForOthers sends nothing but valid DISCOVERs, which no filter can keep away, and now and
// then an INFORM. Of the flood no more is answered than the server allows a type of message (package dhcp).
func TestFloodOfOneMessageLeavesRoomForOthers(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			const burst, rate = 1000, 10_000
			offers, took := flood(t, mode, true, "ACK", wire.Inform)
			// With a second for what the test and the server do not begin and end at once.
			if most := burst + rate*(took.Seconds()+1); float64(offers) > most {
				t.Errorf("%d offers in %s, at most %.0f are expected", offers, took, most)
			}
		})
	}
}

// flood sends malformed or else valid frames, and asks in between. It returns how many offers came, and in what time.
func flood(t *testing.T, mode string, valid bool, answer string, question []byte) (offered int, took time.Duration) {
	t.Helper()
	s := newSite(t, mode, shapes[0])
	server := s.serve()
	mac := s.MAC
	emulator := podtest.HoldTap(s.T, s.Pod.Namespace, "tap0")
	answers := make(chan uint32, 1000)
	var offers atomic.Int64
	go func() {
		frame := make([]byte, tap.HeaderSize+1<<16)
		for {
			n, err := emulator.Read(frame)
			if err != nil {
				return
			}
			m, ok := wire.Parse(frame[tap.HeaderSize:n])
			if ok && m.Name() == "OFFER" {
				offers.Add(1)
			}
			if ok && m.Name() == answer {
				select {
				case answers <- m.XID:
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
	bad := malformed(mac)
	if valid {
		bad = map[string][]byte{"a DISCOVER": wire.Request(mac, 1, wire.Discover...)}
	}
	for _, f := range bad {
		frames = append(frames, append(make([]byte, tap.HeaderSize, tap.HeaderSize+len(f)), f...))
	}
	before := int(podtest.Memory(t, server.PID(), "Rss") >> 10)

	const (
		first  = 0x50000000
		retry  = 100 * time.Millisecond
		resume = 250 * time.Millisecond
	)
	var (
		begin            = time.Now()
		asked, last      time.Time
		waited           time.Duration // until then
		xid              = uint32(first)
		answered         int
		slowest          time.Duration
		largest, refused int
	)
	total := int(floodTime(mode, valid).Seconds() * floodRate)
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
			asked, last, waited = now, now, waiting(t, server.PID())
			send(wire.Request(mac, xid, question...))
		case !asked.IsZero() && now.Sub(last) > retry:
			last = now
			send(wire.Request(mac, xid, question...))
		}
		for more := true; more; {
			select {
			case got := <-answers:
				if got == xid && !asked.IsZero() {
					slowest, answered = max(slowest, now.Sub(asked)), answered+1
					asked = time.Time{}
				}
			default:
				more = false
			}
		}
		// What other programs had of that time is not the server's.
		if !asked.IsZero() && now.Sub(asked) > answerWithin && now.Sub(asked)-(waiting(t, server.PID())-waited) > answerWithin {
			t.Fatalf("no %s within %s, after %d frames", answer, answerWithin, sent)
		}
		if sent%10_000 == 0 {
			largest = max(largest, int(podtest.Memory(t, server.PID(), "Rss")>>10))
		}
		if ahead := time.Duration(sent)*time.Second/floodRate - now.Sub(begin); ahead > 0 {
			time.Sleep(ahead) // this is the rate, not a wait for something
		}
	}
	took = time.Since(begin)
	had, _ := processor(t, server.PID())
	t.Logf("%.0f frames a second, %d answers, the slowest after %s; processor %s; %d KiB before, %d at most",
		float64(total-refused)/took.Seconds(), answered, slowest.Round(time.Microsecond), had, before, largest)
	if answered == 0 {
		t.Errorf("no %s at all", answer)
	}
	if largest > maxResident {
		t.Errorf("the server grew from %d to %d KiB", before, largest)
	}
	// 100 in a row and 20 a second are let through (package dhcp), and each may be logged twice.
	if lines, most := len(server.Lines()), 2*(100+20*int(took.Seconds()+2)); lines > most {
		t.Errorf("%d lines in the log, at most %d are expected", lines, most)
	}
	if status := server.End(syscall.SIGTERM); status != 0 {
		t.Errorf("podnic serve: exit status %d", status)
	}
	return int(offers.Load()), took
}
