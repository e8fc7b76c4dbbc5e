package dhcp

import (
	"encoding/binary"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
)

// ethernet answers a frame as it is read from the tap, without a VLAN tag. The answer is a frame; nil is none.
func (h *handler) ethernet(frame []byte, sum link.ChecksumState) []byte {
	out, err := h.answerFrame(frame, sum)
	if err != nil {
		h.stats.Dropped[err.Error()]++
		return nil
	}
	return out
}

func (h *handler) answerFrame(frame []byte, sum link.ChecksumState) ([]byte, error) {
	if len(frame) < link.EtherLen {
		return nil, drop.Truncated
	}
	switch payload := frame[link.EtherLen:]; binary.BigEndian.Uint16(frame[12:]) {
	case link.TypeARP:
		return h.arp(payload)
	case link.TypeIPv4:
		datagram, source, err := link.ParseUDP(payload, sum)
		if err != nil {
			return nil, err
		}
		r := h.datagram(datagram, source)
		if r.Message == nil {
			return nil, nil
		}
		return h.wrap(r), nil
	}
	return nil, drop.NotForUs
}

// wrap makes the frame of a response. Its source is the server's MAC, no matter whose address the server identifier is: a frame
// must not teach the guest, or a bridge in it, that the gateway is here.
func (h *handler) wrap(r link.Response) []byte {
	mac, to := h.client, r.To
	if !to.IsValid() {
		mac, to = link.BroadcastMAC, link.LimitedBroadcast()
	}
	h.frame = link.AppendFrame(h.frame[:0], mac, h.serverMAC, h.offer.ServerIdentifier, to, r.Message)
	return h.frame
}
