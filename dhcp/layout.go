package dhcp

import (
	"cmp"
	"slices"
)

const (
	// minDatagram is the size in bytes that every client takes (RFC 2131 §2), the IP and UDP headers included.
	minDatagram = 576
	// maxDatagram is the largest one that IPv4 has.
	maxDatagram = 65535
	// ethernetMTU bounds a reply where the pod's MTU is not known, in bytes.
	ethernetMTU = 1500
	// minBootpRoom is what BOOTP's vendor field has for options after the cookie (RFC 951 §3).
	minBootpRoom = 64 - 4
	// headersLen is the IPv4 header without options and the UDP header.
	headersLen = 20 + 8
	// minMessage is the size that some clients and relays insist on, since BOOTP had it (RFC 1542 §2.1).
	minMessage = 300
	// maxPart is the most that one instance of an option holds; longer values are split (RFC 3396).
	maxPart = 255
)

// Sizes of the header fields that option 52 may fill with options.
const (
	snameLen = offFile - offSname
	fileLen  = offCookie - offFile
)

// layout says where the options of a message may go.
type layout struct {
	room        int // bytes of the options field, the end option included
	file, sname bool
}

// lay writes the options into msg, which holds the header and the cookie, and returns it longer. When they do not fit,
// the fields file and sname are filled too where the layout allows it (RFC 2131 §4.1); when that is not enough, options
// are left out as leastImportant says. It fails when what must be sent does not fit.
//
// The first option is the message type, and it stays first.
func lay(msg []byte, options []wireOption, l layout) (_ []byte, leftOut []uint8, err error) {
	for {
		for _, overload := range []byte{0, overloadFile, overloadSname, overloadFile | overloadSname} {
			if overload&overloadFile != 0 && !l.file || overload&overloadSname != 0 && !l.sname {
				continue
			}
			if out, ok := place(msg, options, l.room, overload); ok {
				return out, leftOut, nil
			}
		}
		i := leastImportant(options)
		if i < 0 {
			return nil, leftOut, dropNoRoom
		}
		leftOut = append(leftOut, options[i].code)
		options = slices.Delete(options, i, i+1)
	}
}

// place tries one overload.
func place(msg []byte, options []wireOption, room int, overload byte) ([]byte, bool) {
	fields := []field{{to: msg[len(msg):], left: room - 1}}
	if overload != 0 {
		// Option 52 follows the message type.
		options = slices.Insert(slices.Clone(options), 1, wireOption{codeOverload, []byte{overload}})
	}
	if overload&overloadFile != 0 {
		fields = append(fields, field{to: make([]byte, 0, fileLen), left: fileLen - 1})
	}
	if overload&overloadSname != 0 {
		fields = append(fields, field{to: make([]byte, 0, snameLen), left: snameLen - 1})
	}
	if !fill(fields, options) {
		return nil, false
	}
	msg = append(msg, fields[0].to...)
	msg = append(msg, codeEnd)
	rest := fields[1:]
	if overload&overloadFile != 0 {
		copy(msg[offFile:offCookie], append(rest[0].to, codeEnd))
		rest = rest[1:]
	}
	if overload&overloadSname != 0 {
		copy(msg[offSname:offFile], append(rest[0].to, codeEnd))
	}
	return msg, true
}

// field is a part of a message that holds options; left is the room for more of them, in bytes.
type field struct {
	to   []byte
	left int
}

func (f *field) put(code uint8, data []byte) {
	f.to = append(f.to, code, byte(len(data)))
	f.to = append(f.to, data...)
}

// fill distributes the options, each field in their order. An option of up to 255 bytes stays whole: many clients join the
// parts of an option only where there is no other way to have it. A longer one is split over what is left of the fields,
// in the order in which they are read: options, file, sname (RFC 3396 §5).
func fill(fields []field, options []wireOption) bool {
	homes, ok := assign(fields, options)
	if !ok {
		return false
	}
	for i, o := range options {
		if len(o.data) <= maxPart {
			fields[homes[i]].put(o.code, o.data)
		}
	}
	for _, o := range options {
		if len(o.data) <= maxPart {
			continue
		}
		data := o.data
		for i := range fields {
			for f := &fields[i]; f.left > 2 && len(data) > 0; {
				n := min(len(data), f.left-2, maxPart)
				f.put(o.code, data[:n])
				f.left -= 2 + n
				data = data[n:]
			}
		}
		if len(data) > 0 {
			return false
		}
	}
	return true
}

// assign finds a field for each option that stays whole: the protocol's own first, so that they are where every client
// looks for them, then the large ones, which are the hardest to place.
func assign(fields []field, options []wireOption) (homes []int, ok bool) {
	order := make([]int, 0, len(options))
	for i, o := range options {
		if len(o.data) <= maxPart {
			order = append(order, i)
		}
	}
	if len(fields) > 1 {
		slices.SortStableFunc(order, func(a, b int) int {
			own := func(i int) int {
				switch options[i].code {
				case codeMessageType, codeOverload: // a client knows of the other fields by option 52 alone
					return 2
				}
				return rank(options[i].code) / len(importance)
			}
			return cmp.Or(own(b)-own(a), len(options[b].data)-len(options[a].data))
		})
	}
	homes = make([]int, len(options))
	for _, i := range order {
		size := 2 + len(options[i].data)
		home := slices.IndexFunc(fields, func(f field) bool { return f.left >= size })
		if home < 0 {
			return nil, false
		}
		homes[i] = home
		fields[home].left -= size
	}
	return homes, true
}

// anyExtra stands in importance for every option that has no entry of its own: those of the operator.
const anyExtra = codePad

// importance is the order in which options are left out of a message that is too small for all of them, the first one
// first: it begins with what a guest can do without and ends with what it needs to reach anything at all. 249 comes late
// because a client that asks for it may not know 121.
var importance = [...]uint8{
	codeBroadcast, codeNTP, anyExtra, codeSearch, codeTFTPServer, codeBootFile, codeDomainName, codeHostname, codeMTU,
	codeDNS, codeRoutesMS, codeRouter, codeRoutes,
}

// leastImportant is the index of the option to leave out next, the last one among equals; -1 when all must stay.
func leastImportant(options []wireOption) int {
	least, at := len(importance), -1
	for i, o := range options {
		if r := rank(o.code); r <= least {
			least, at = r, i
		}
	}
	if least == len(importance) {
		return -1
	}
	return at
}

// rank is the place of an option in importance; those that the protocol needs in a message come after all.
func rank(code uint8) int {
	switch code {
	case codeMask, codeLeaseTime, codeOverload, codeMessageType, codeServer, codeMessage, codeRenewal, codeRebinding, codeClientID,
		codeRapidCommit, codeRelayAgent:
		return len(importance)
	}
	if i := slices.Index(importance[:], code); i >= 0 {
		return i
	}
	return slices.Index(importance[:], anyExtra)
}
