package dhcp

import (
	"encoding/binary"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// ethernet answers a frame as it is read from the tap, without a VLAN tag. The answer is a frame; nil is none.
func (h *handler) ethernet(frame []byte, sum checksumState) []byte {
	out, err := h.answerFrame(frame, sum)
	if err != nil {
		h.stats.Dropped[err.Error()]++
		return nil
	}
	return out
}

func (h *handler) answerFrame(frame []byte, sum checksumState) ([]byte, error) {
	if len(frame) < etherLen {
		return nil, drop.Truncated
	}
	switch payload := frame[etherLen:]; binary.BigEndian.Uint16(frame[12:]) {
	case typeARP:
		return h.arp(payload)
	case typeIPv4:
		datagram, source, err := parseUDP(payload, sum)
		if err != nil {
			return nil, err
		}
		r := h.datagram(datagram, source)
		if r.message == nil {
			return nil, nil
		}
		return h.wrap(r), nil
	}
	return nil, drop.NotForUs
}

// wrap makes the frame of a response. Its source is the server's MAC, whoever the server identifier belongs to: a frame
// must not teach the guest, or a bridge in it, that the gateway is here.
func (h *handler) wrap(r response) []byte {
	mac, to := h.client, r.to
	if !to.IsValid() {
		mac, to = broadcastMAC, limitedBroadcast()
	}
	h.frame = appendFrame(h.frame[:0], mac, h.serverMAC, h.offer.ServerIdentifier, to, r.message)
	return h.frame
}
