package network

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/podtest"
)

// pingInterval is between two pings. What is lost is counted in pings and not by the clock: a machine that stands still
// for a while sends none either.
const pingInterval = 10 * time.Millisecond

// pinger is a guest that pings its gateway without pause.
type pinger struct {
	mu       sync.Mutex
	sent     int
	answers  map[int]bool
	news     chan struct{}
	stop     chan struct{}
	stopOnce func()
	done     sync.WaitGroup
}

// ping begins to ping, until the test ends or end is called.
func ping(t *testing.T, guest port) *pinger {
	t.Helper()
	p := &pinger{answers: make(map[int]bool), news: make(chan struct{}, 1), stop: make(chan struct{})}
	p.stopOnce = sync.OnceFunc(func() { close(p.stop) })
	p.done.Go(func() {
		tick := time.NewTicker(pingInterval)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			p.mu.Lock()
			number := p.sent
			p.sent++
			p.mu.Unlock()
			if err := guest.send(echo(number)); err != nil {
				t.Errorf("ping %d: %v", number, err)
				return
			}
		}
	})
	p.done.Go(func() {
		b := make([]byte, 2000)
		for {
			select {
			case <-p.stop:
				return
			default:
			}
			if err := guest.until(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Error(err)
				return
			}
			n, err := guest.receive(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				t.Errorf("the guest's tap: %v", err)
				return
			}
			if number, ok := echoed(b[:n]); ok {
				p.mu.Lock()
				p.answers[number] = true
				p.mu.Unlock()
				select {
				case p.news <- struct{}{}:
				default:
				}
			}
		}
	})
	t.Cleanup(func() {
		p.stopOnce()
		p.done.Wait()
	})
	return p
}

// answered reports whether a ping is answered that is sent from now on.
func (p *pinger) answered() bool {
	p.mu.Lock()
	from := p.sent
	p.mu.Unlock()
	timeout := time.After(podtest.Patience)
	for {
		select {
		case <-p.news:
		case <-timeout:
			return false
		}
		p.mu.Lock()
		for number := from; number < p.sent; number++ {
			if p.answers[number] {
				p.mu.Unlock()
				return true
			}
		}
		p.mu.Unlock()
	}
}

// end stops, and tells how many pings in a row had no answer at worst. The last ones may be on their way still.
func (p *pinger) end() (sent, lost int) {
	p.answered()
	p.stopOnce()
	p.done.Wait()
	row := 0
	for number := range p.sent {
		if p.answers[number] {
			row = 0
		} else {
			row++
		}
		lost = max(lost, row)
	}
	return p.sent, lost
}

// echo is an ICMP echo request (RFC 792) from the pod's address to its gateway.
func echo(number int) []byte {
	message := []byte{8, 0, 0, 0, 0x70, 0x6e, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(message[8:], uint32(number))
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return ethernet(nodeMAC, podMAC, unix.ETH_P_IP, ipv4Packet(unix.IPPROTO_ICMP, podIP, gatewayIP, message))
}

// echoed is the number of the request that a frame answers.
func echoed(frame []byte) (number int, ok bool) {
	const start = 14 + 20
	if len(frame) < start+12 || frame[12] != 8 || frame[13] != 0 || frame[23] != unix.IPPROTO_ICMP || frame[start] != 0 {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(frame[start+8:])), true
}
