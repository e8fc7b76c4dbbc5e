package podtest

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"
)

// Report is the part of what prepare and status print as JSON that tests read. It is written by the document and not taken
// from the program, so that a field that gets another name is noticed.
type Report struct {
	Phase      string
	Interfaces []Interface
	// Log are the hook's calls.
	Log []Call
}

// Interface is one that the guest gets.
type Interface struct {
	Name, Binding, Bridge, Tap, MAC string
	Addresses                       []netip.Prefix
	Routes                          []struct{ Destination, Gateway string }
	Offer                           Offer
	Lease                           Lease
	Offer6                          struct {
		Addresses []netip.Prefix
		Router    string
	}
	Lease6 struct {
		State     string
		Addresses []netip.Addr
	}
	PodPorts, GuestPorts []string
	SourcePorts          string
	GuestLink            struct{ Lowered bool }
	Spoofed              *uint64
	Differences          []struct{ What string }
	Warnings             []string
}

// Offer is what the guest is told. Without one, Address is not valid.
type Offer struct {
	Address              netip.Prefix
	ServerIdentifier     netip.Addr
	DomainName, BootFile string
	TFTPServer           string
	NTP                  []netip.Addr
	Options              []string
	ARP                  []struct {
		Destination netip.Prefix
		MAC         string
	}
}

// Lease is what the guest has.
type Lease struct {
	State          string
	Address        netip.Addr
	Since, Expires time.Time
}

// Call is a line of the hook's log.
type Call struct {
	Guest, Operation, Reason, Outcome, Error string
	Did                                      []string
}

// ReadReport decodes a report with an interface.
func ReadReport(t testing.TB, text string) Report {
	t.Helper()
	var r Report
	if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.Interfaces) == 0 {
		t.Fatalf("%v: %s", err, text)
	}
	return r
}
