package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// arp takes note of the guest using its address and answers requests for the addresses of the offer.
func (h *handler) arp(b []byte) ([]byte, error) {
	if len(b) < link.ARPLen {
		return nil, drop.Truncated
	}
	if binary.BigEndian.Uint64(b)>>16 != link.ARPPrefix {
		return nil, drop.Malformed
	}
	mac := identity.MAC(b[link.ARPSenderMAC:])
	sender, target := link.ARPAddresses(b)
	if mac == h.client {
		h.alive()
		if sender == h.offer.Address.Addr() {
			h.addressSeen()
		}
	}
	// A sender that asks for its own address announces it (RFC 5227 §1.1) and wants no answer.
	if binary.BigEndian.Uint16(b[6:]) != link.ARPRequest || sender == target {
		return nil, nil
	}
	answer, ok := h.arpAnswer(target)
	if !ok {
		return nil, nil
	}
	if _, ok := h.arpPace.allow(h.now()); !ok {
		return nil, drop.TooMany
	}
	h.stats.Sent[KindARP]++
	h.note(Event{Kind: KindARP, MAC: mac, Address: target, Detail: "is at " + answer.String()})

	h.frame = link.AppendARPReply(h.frame[:0], b, answer)
	return h.frame, nil
}

// arpAnswer never answers for the guest's own address: the guest would take it for a duplicate and decline it.
func (h *handler) arpAnswer(target netip.Addr) (identity.MAC, bool) {
	if target == h.offer.Address.Addr() {
		return identity.MAC{}, false
	}
	for _, a := range h.offer.ARP {
		if a.Destination.Contains(target) && !slices.ContainsFunc(a.Except, func(p netip.Prefix) bool { return p.Contains(target) }) {
			if a.MAC.IsZero() {
				return h.serverMAC, true
			}
			return a.MAC, true
		}
	}
	return identity.MAC{}, false
}
