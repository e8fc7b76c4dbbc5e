package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// capture is a file of one frame, as draft-ietf-opsawg-pcapng §4.1–4.3 lays it out; test/serve has tcpdump read longer ones.
var capture = []byte{
	0x0a, 0x0d, 0x0d, 0x0a, 44, 0, 0, 0, // section header, its length
	0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, // byte order, version 1.0
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // a section of unknown length
	4, 0, 6, 0, 'p', 'o', 'd', 'n', 'i', 'c', 0, 0, // the application
	0, 0, 0, 0, // no more options
	44, 0, 0, 0,

	1, 0, 0, 0, 40, 0, 0, 0, // interface description
	1, 0, 0, 0, 0, 0, 0, 0, // Ethernet, frames as a whole
	2, 0, 4, 0, 't', 'a', 'p', '0',
	9, 0, 1, 0, 9, 0, 0, 0, // times in 10^-9 s
	0, 0, 0, 0,
	40, 0, 0, 0,

	6, 0, 0, 0, 60, 0, 0, 0, // enhanced packet
	0, 0, 0, 0, // of the first interface
	1, 0, 0, 0, 7, 0, 0, 0, // 2^32 + 7 ns
	5, 0, 0, 0, 5, 0, 0, 0, // captured, and on the wire
	1, 2, 3, 4, 5, 0, 0, 0,
	2, 0, 4, 0, 2, 0, 0, 0, // outbound
	1, 0, 2, 0, 'w', 'h', 0, 0, // a comment
	0, 0, 0, 0,
	60, 0, 0, 0,
}

func TestCaptureIsLaidOutAsTheDraftSays(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, []string{"tap0"}, "podnic")
	if err != nil {
		t.Fatal(err)
	}
	err = w.Write(Packet{At: time.Unix(0, 1<<32+7), Direction: Outbound, Comment: "wh", Data: []byte{1, 2, 3, 4, 5}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(capture, b.Bytes()); diff != "" {
		t.Error(diff)
	}
}

// broken fails after some writes.
type broken struct{ left int }

var errBroken = errors.New("broken")

func (b *broken) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestEachBlockIsOneWriteWhoseErrorIsReturned(t *testing.T) {
	for n := range 3 {
		w, err := NewWriter(&broken{n}, []string{"tap0"}, "podnic")
		if n == 2 {
			if err != nil {
				t.Fatal(err)
			}
			err = w.Write(Packet{})
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}

// TestFramesOfSeveralLinksAreToldApart: each link has its description, and each frame the number of its link.
func TestFramesOfSeveralLinksAreToldApart(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, []string{"tap0", "tap1"}, "podnic")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []int{1, 0} {
		if err := w.Write(Packet{Link: link, At: time.Unix(1, 0), Direction: Inbound, Data: []byte{1, 2, 3, 4}}); err != nil {
			t.Fatal(err)
		}
	}
	var blocks []string
	for rest := b.Bytes(); len(rest) > 0; {
		kind, length := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint32(rest[4:])
		switch kind {
		case interfaceDescription:
			blocks = append(blocks, "link "+string(rest[20:24]))
		case enhancedPacket:
			blocks = append(blocks, fmt.Sprint("frame of ", binary.LittleEndian.Uint32(rest[8:])))
		}
		rest = rest[length:]
	}
	if diff := cmp.Diff([]string{"link tap0", "link tap1", "frame of 1", "frame of 0"}, blocks); diff != "" {
		t.Error(diff)
	}
}
