package dhcp

import (
	"maps"
	"time"

	"github.com/podnic/podnic/network/identity"
)

// Stats are counters since the start of the server.
type Stats struct {
	// Received counts messages of the guest that were understood, by Kind.
	Received map[Kind]uint64 `json:"received"`
	// Sent counts replies by Kind, ARP included.
	Sent map[Kind]uint64 `json:"sent"`
	// Dropped counts what was read and not answered, by reason.
	Dropped map[string]uint64 `json:"dropped"`
	// QueueDrops counts frames that the kernel dropped because the socket's queue was full.
	QueueDrops uint64 `json:"queueDrops"`
	// OptionsLeftOut counts options that did not fit into a reply.
	OptionsLeftOut uint64 `json:"optionsLeftOut"`
	SendErrors     uint64 `json:"sendErrors"`
	SocketErrors   uint64 `json:"socketErrors"`
	Panics         uint64 `json:"panics"`
	// Foreign is the last client with another MAC. The kernel's filter keeps most of its frames away, so Frames counts what
	// the server looked at, not what was sent.
	Foreign Foreign `json:"foreign,omitzero"`
}

// Foreign is a DHCP client behind the tap that is not the guest as the pod knows it.
type Foreign struct {
	MAC    identity.MAC `json:"mac"`
	Frames uint64       `json:"frames"`
	First  time.Time    `json:"first"`
	Last   time.Time    `json:"last"`
}

func newStats() Stats {
	return Stats{
		Received: make(map[Kind]uint64),
		Sent:     make(map[Kind]uint64),
		Dropped:  make(map[string]uint64),
	}
}

func (s Stats) clone() Stats {
	s.Received, s.Sent, s.Dropped = maps.Clone(s.Received), maps.Clone(s.Sent), maps.Clone(s.Dropped)
	return s
}
