// Package wire is what podnic and podnic-libvirt say to each other: JSON objects, one on a line, over the helper's standard
// input and output.
//
// The helper speaks first (Hello) and then sends Messages; podnic sends Requests. Requests may be answered in any order. An
// event may come before or after the answer to a request that it happened during; events keep libvirt's order among
// themselves. The helper ends when its standard input does.
package wire

// Protocol names what this package defines. Any change to it changes the number: both programs come from one build, and
// nothing is gained by understanding another's.
const Protocol = "podnic-libvirt protocol 4"

// Hello is the first line of the helper.
type Hello struct {
	Protocol string `json:"protocol"`
}

// The calls of a Request. Connect is the first, once.
const (
	Connect  = "connect"  // URI
	Start    = "start"    // XML; answered with the domain's UUID
	Find     = "find"     // Name; answered with the domain, or without one when it does not run
	LookUp   = "look"     // UUID; answered with the domain's state, or KindGone
	Describe = "describe" // UUID; answered with the domain's XML as it runs, or KindGone
	Update   = "update"   // UUID, XML: what a device of the domain, which runs, is to be like
	Attach   = "attach"   // UUID, XML: a device that the domain, which runs, is to get
	Detach   = "detach"   // UUID, Name: the alias of a device that the guest is asked to give up; an event says what came of it
	Shutdown = "shutdown" // UUID
	Destroy  = "destroy"  // UUID
	Version  = "version"  // answered with the daemon's versions
)

// Request asks the helper for one call.
type Request struct {
	ID   uint64 `json:"id"`
	Call string `json:"call"`
	URI  string `json:"uri,omitempty"`
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
	XML  []byte `json:"xml,omitempty"`
}

// Message is one line of the helper: one of its fields.
type Message struct {
	Response *Response `json:"response,omitempty"`
	Event    *Event    `json:"event,omitempty"`
	// Lost says why the connection to the daemon broke.
	Lost string `json:"lost,omitempty"`
}

// Response answers the request of that ID.
type Response struct {
	ID     uint64  `json:"id"`
	Domain *Domain `json:"domain,omitempty"`
	Daemon *Daemon `json:"daemon,omitempty"`
	Error  *Error  `json:"error,omitempty"`
}

// Daemon says what is at the other end of a connection. The versions are libvirt's numbers: 1,000,000 × major + 1,000 ×
// minor + release.
type Daemon struct {
	Driver     string `json:"driver"` // QEMU
	Libvirt    uint32 `json:"libvirt"`
	Hypervisor uint32 `json:"hypervisor,omitempty"` // 0 when it does not say
}

// Domain is what a call found out about a running domain.
type Domain struct {
	UUID  string `json:"uuid,omitempty"`
	State string `json:"state,omitempty"`
	XML   []byte `json:"xml,omitempty"`
}

// What a domain is doing.
const (
	Running      = "running"
	Paused       = "paused"
	Suspended    = "suspended"
	ShuttingDown = "shutting down"
	Crashed      = "crashed"
	Restarting   = "restarting"
)

// How a domain ended, where that is known.
const (
	ByGuest = "guest"
	ByCrash = "crash"
	ByOther = "other"
)

// Event is what happened to a domain: it has another state, or has ended, or is about one of its devices.
type Event struct {
	UUID   string `json:"uuid"`
	State  string `json:"state,omitempty"`
	Ended  bool   `json:"ended,omitempty"`
	How    string `json:"how,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Device is the alias of a device that is gone, or, if Kept, that the guest refuses to give up.
	Device string `json:"device,omitempty"`
	Kept   bool   `json:"kept,omitempty"`
}

// The kinds of Error that podnic acts upon.
const (
	KindGone      = "gone"      // the domain is not running
	KindPermanent = "permanent" // trying again will not help, Remedy says what will
)

// Error is a failed call's, in one line of text.
type Error struct {
	Kind   string `json:"kind,omitempty"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

func (e *Error) Error() string { return e.Text }
