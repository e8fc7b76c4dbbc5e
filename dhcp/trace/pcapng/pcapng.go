// Package pcapng writes captures of Ethernet links in the pcapng format (draft-ietf-opsawg-pcapng), as tcpdump and
// Wireshark read them.
//
// It writes three kinds of blocks and nothing else: one section header, an interface description for each link, and an
// enhanced packet for each frame. Each is one call of Write, so that a capture can be read while it is being made, and is whole whenever
// it ends.
package pcapng

import (
	"encoding/binary"
	"io"
	"time"
)

// Types of blocks and what stands in them (draft-ietf-opsawg-pcapng §4.1–4.3).
const (
	sectionHeader        = 0x0a0d0d0a
	interfaceDescription = 1
	enhancedPacket       = 6

	byteOrderMagic = 0x1a2b3c4d
	linkEthernet   = 1
	unknownLength  = 1<<64 - 1

	optComment = 1
	// Of the section header.
	shbUserApplication = 4
	// Of the interface description.
	ifName           = 2
	ifTimeResolution = 9
	// Of the enhanced packet.
	epbFlags = 2
)

// Direction of a frame, as the link sees it (draft-ietf-opsawg-pcapng §4.3.1).
type Direction uint32

// Values of Direction.
const (
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Packet is one frame.
type Packet struct {
	// Link is which of the writer's links it passed.
	Link      int
	At        time.Time
	Direction Direction
	// Comment is shown beside the frame; none if it is empty.
	Comment string
	Data    []byte
}

// Writer writes one capture.
type Writer struct {
	to    io.Writer
	block []byte
}

// NewWriter begins a capture of links, made by an application.
func NewWriter(to io.Writer, links []string, application string) (*Writer, error) {
	w := &Writer{to: to}
	w.begin(sectionHeader)
	w.put32(byteOrderMagic)
	w.put32(1) // version 1.0: the major number in the lower half
	w.block = binary.LittleEndian.AppendUint64(w.block, unknownLength)
	w.option(shbUserApplication, []byte(application))
	w.option(0, nil)
	if err := w.end(); err != nil {
		return nil, err
	}
	for _, link := range links {
		w.begin(interfaceDescription)
		w.put32(linkEthernet) // the upper half is reserved
		w.put32(0)            // no limit to what is captured of a frame
		w.option(ifName, []byte(link))
		w.option(ifTimeResolution, []byte{9}) // nanoseconds
		w.option(0, nil)
		if err := w.end(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Write adds a frame.
func (w *Writer) Write(p Packet) error {
	w.begin(enhancedPacket)
	w.put32(uint32(p.Link))
	at := uint64(p.At.UnixNano())
	w.put32(uint32(at >> 32))
	w.put32(uint32(at))
	w.put32(uint32(len(p.Data)))
	w.put32(uint32(len(p.Data)))
	w.pad(p.Data)
	w.option(epbFlags, binary.LittleEndian.AppendUint32(nil, uint32(p.Direction)))
	if p.Comment != "" {
		w.option(optComment, []byte(p.Comment))
	}
	w.option(0, nil)
	return w.end()
}

// begin begins a block, whose length is put in by end.
func (w *Writer) begin(kind uint32) {
	w.block = w.block[:0]
	w.put32(kind)
	w.put32(0)
}

func (w *Writer) put32(v uint32) { w.block = binary.LittleEndian.AppendUint32(w.block, v) }

// pad appends bytes and fills up to a multiple of four.
func (w *Writer) pad(b []byte) {
	w.block = append(w.block, b...)
	w.block = append(w.block, make([]byte, -len(b)&3)...)
}

func (w *Writer) option(code uint16, value []byte) {
	w.block = binary.LittleEndian.AppendUint16(w.block, code)
	w.block = binary.LittleEndian.AppendUint16(w.block, uint16(len(value)))
	w.pad(value)
}

// end writes the block out, with its length at both ends.
func (w *Writer) end() error {
	size := uint32(len(w.block) + 4)
	w.put32(size)
	binary.LittleEndian.PutUint32(w.block[4:], size)
	_, err := w.to.Write(w.block)
	return err
}
