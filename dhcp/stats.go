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
	// Exchanges counts the messages of Received by what came of them.
	Exchanges map[Exchange]uint64 `json:"-"`
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

// Exchange is a message of the guest and what came of it: the Kind of the reply, OutcomeNoted or OutcomeDropped.
type Exchange struct{ Message, Outcome Kind }

// Outcomes of messages that no reply was sent to.
const (
	OutcomeNoted   Kind = "noted"   // it wants no reply
	OutcomeDropped Kind = "dropped" // it was not answered; Stats.Dropped has the reasons
)

// Exchanges are all that Stats.Exchanges can count, in a fixed order.
func Exchanges() []Exchange {
	return []Exchange{
		{KindDiscover, KindOffer}, {KindDiscover, KindAck}, {KindDiscover, OutcomeDropped},
		{KindRequest, KindAck}, {KindRequest, KindNak}, {KindRequest, OutcomeDropped},
		{KindDecline, OutcomeNoted}, {KindRelease, OutcomeNoted},
		{KindInform, KindAck}, {KindInform, OutcomeDropped},
		{KindBootp, KindBootp},
	}
}

// Exchanges6 is Exchanges for DHCPv6.
func Exchanges6() []Exchange {
	all := []Exchange{{KindSolicit, KindAdvertise}}
	for _, kind := range []Kind{KindSolicit, KindRequest, KindConfirm, KindRenew, KindRebind, KindRelease, KindDecline, KindInformation} {
		all = append(all, Exchange{kind, KindReply}, Exchange{kind, OutcomeDropped})
	}
	return all
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
		Received:  make(map[Kind]uint64),
		Sent:      make(map[Kind]uint64),
		Exchanges: make(map[Exchange]uint64),
		Dropped:   make(map[string]uint64),
	}
}

func (s Stats) clone() Stats {
	s.Received, s.Sent, s.Dropped = maps.Clone(s.Received), maps.Clone(s.Sent), maps.Clone(s.Dropped)
	s.Exchanges = maps.Clone(s.Exchanges)
	return s
}
