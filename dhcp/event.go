package dhcp

import (
	"net/netip"
	"time"

	"github.com/podnic/podnic/network/identity"
)

// Kind says what an Event is about.
type Kind string

// The kinds of events. Those of messages are named after them.
const (
	KindFirstFrame  Kind = "first-frame" // the guest's network is alive: the first frame of it that the server reads
	KindAddressSeen Kind = "address-seen"
	KindDiscover    Kind = "discover"
	KindOffer       Kind = "offer"
	KindRequest     Kind = "request"
	KindAck         Kind = "ack"
	KindNak         Kind = "nak"
	KindDecline     Kind = "decline" // the guest found the address in use by another machine
	KindRelease     Kind = "release"
	KindInform      Kind = "inform"
	KindBootp       Kind = "bootp"
	KindARP         Kind = "arp" // an ARP request was answered

	// Of DHCPv6, besides those that DHCP has, and of Neighbor Discovery.
	KindSolicit         Kind = "solicit"
	KindAdvertise       Kind = "advertise"
	KindConfirm         Kind = "confirm"
	KindRenew           Kind = "renew"
	KindRebind          Kind = "rebind"
	KindReply           Kind = "reply"
	KindInformation     Kind = "information-request"
	KindRouterSolicit   Kind = "router-solicit"
	KindRouterAdvertise Kind = "router-advertise"
	KindNeighbor        Kind = "neighbor-advertise" // a neighbour solicitation was answered

	KindForeign    Kind = "foreign-mac" // a DHCP client with another MAC asks behind the tap
	KindRelayed    Kind = "relayed"     // requests came by a relay, and are not answered
	KindMalformed  Kind = "malformed"   // requests cannot be read, and are not answered
	KindExpired    Kind = "expired"     // the lease ran out
	KindLeftOut    Kind = "left-out"    // options did not fit into a reply
	KindSocketOpen Kind = "socket-open"
	KindSocketLost Kind = "socket-lost"
	KindLinkDown   Kind = "link-down" // the socket waits for the link to come up
	KindSendFailed Kind = "send-failed"
	KindSetting    Kind = "setting" // the namespace lacks a setting that the socket needs; Detail names it
	KindPanic      Kind = "panic"   // a frame made the handler panic; the server goes on
)

// Event is something worth tracing or keeping. Lease changes are always reported; the rest is thinned out when the guest
// floods the server, and Suppressed tells how many events were left out since the last one.
type Event struct {
	Kind Kind      `json:"kind"`
	At   time.Time `json:"at"`
	// MAC is who caused it, when somebody did.
	MAC identity.MAC `json:"mac,omitzero"`
	// Address is what the event is about: requested, offered, asked for by ARP.
	Address netip.Addr `json:"address,omitzero"`
	// Transaction is the DHCP transaction identifier.
	Transaction uint32 `json:"transaction,omitempty"`
	Detail      string `json:"detail,omitempty"`
	// Lease is the lease after the event, of a server of IPv6 Lease6, and Changed whether the event changed it.
	Lease      Lease  `json:"lease"`
	Lease6     Lease6 `json:"lease6,omitzero"`
	Changed    bool   `json:"changed,omitempty"`
	Suppressed uint64 `json:"suppressed,omitempty"`

	stack []byte // of a panic, for the log
}
