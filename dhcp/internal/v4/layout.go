package v4

import (
	"cmp"
	"slices"
)

const (
	// MinDatagram is the size in bytes that every client takes (RFC 2131 §2), the IP and UDP headers included.
	MinDatagram = 576
	// MaxDatagram is the largest one that IPv4 has.
	MaxDatagram = 65535
	// EthernetMTU bounds a reply where the pod's MTU is not known, in bytes.
	EthernetMTU = 1500
	// MinBootpRoom is what BOOTP's vendor field has for options after the cookie (RFC 951 §3).
	MinBootpRoom = 64 - 4
	// HeadersLen is the IPv4 header without options and the UDP header.
	HeadersLen = 20 + 8
	// MinMessage is the size that some clients and relays insist on, since BOOTP had it (RFC 1542 §2.1).
	MinMessage = 300
	// MaxPart is the most that one instance of an option holds; longer values are split (RFC 3396).
	MaxPart = 255
)

// Sizes of the header fields that option 52 may fill with options.
const (
	snameLen = OffFile - OffSname
	fileLen  = OffCookie - OffFile
)

// Layout says where the options of a message may go.
type Layout struct {
	Room        int // bytes of the options field, the end option included
	File, Sname bool
	Routes      RouteForms // of options 121 and 249, unless the operator has set them
}

// Lay writes the options into msg, which holds the header and the cookie, and returns it longer. When they do not fit,
// the fields file and sname are filled too where the layout allows it (RFC 2131 §4.1); when that is not enough, options
// are left out or made shorter as concessions says. It fails when what must be sent does not fit.
//
// The first option is the message type, and it stays first.
func Lay(msg []byte, options []Option, l Layout) ([]byte, Shortage, error) {
	if a, ok := arrange(msg[len(msg):], options, l); ok {
		return a.write(msg), Shortage{}, nil
	}
	return squeeze(msg, options, l)
}

// arrangement is a way in which options fit: the options field, and those of the fields file and sname that are used.
type arrangement struct {
	options, file, sname []byte
}

// arrange looks for a way to place all options, with as few fields as it takes. The options field is made in the capacity
// of to.
func arrange(to []byte, options []Option, l Layout) (arrangement, bool) {
	for _, overload := range []byte{0, OverloadFile, OverloadSname, OverloadFile | OverloadSname} {
		if overload&OverloadFile != 0 && !l.File || overload&OverloadSname != 0 && !l.Sname {
			continue
		}
		if a, ok := place(to, options, l.Room, overload); ok {
			return a, true
		}
	}
	return arrangement{}, false
}

// place tries one overload.
func place(to []byte, options []Option, room int, overload byte) (arrangement, bool) {
	fields := []field{{to: to, left: room - 1}}
	if overload != 0 {
		// Option 52 follows the message type.
		options = slices.Insert(slices.Clone(options), 1, Option{CodeOverload, []byte{overload}})
	}
	if overload&OverloadFile != 0 {
		fields = append(fields, field{to: make([]byte, 0, fileLen), left: fileLen - 1})
	}
	if overload&OverloadSname != 0 {
		fields = append(fields, field{to: make([]byte, 0, snameLen), left: snameLen - 1})
	}
	if !fill(fields, options) {
		return arrangement{}, false
	}
	var a arrangement
	for i, into := range []*[]byte{&a.options, &a.file, &a.sname} {
		switch {
		case i == 1 && overload&OverloadFile == 0, i == 2 && overload&OverloadSname == 0:
		default:
			*into = append(fields[0].to, CodeEnd)
			fields = fields[1:]
		}
	}
	return a, true
}

// write appends the options field to the header and fills the header's own.
func (a arrangement) write(msg []byte) []byte {
	msg = append(msg, a.options...)
	copy(msg[OffFile:OffCookie], a.file)
	copy(msg[OffSname:OffFile], a.sname)
	return msg
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
// in the order in which they are read: options, file, sname (RFC 3396 §5). Routes are split between two of them, though
// RFC 3396 would allow it anywhere: systemd-networkd reads each part as a list of its own.
func fill(fields []field, options []Option) bool {
	homes, ok := assign(fields, options)
	if !ok {
		return false
	}
	for i, o := range options {
		if len(o.Data) <= MaxPart {
			fields[homes[i]].put(o.Code, o.Data)
		}
	}
	for _, o := range options {
		if len(o.Data) <= MaxPart {
			continue
		}
		data := o.Data
		for i := range fields {
			for f := &fields[i]; len(data) > 0; {
				n := part(o.Code, data, min(f.left-2, MaxPart))
				if n == 0 {
					break
				}
				f.put(o.Code, data[:n])
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

// part is how many bytes of an option's data the next part of at most so many bytes has.
func part(code uint8, data []byte, most int) int {
	most = max(0, min(most, len(data)))
	if IsRoutes(code) && most < len(data) {
		return wholeRoutes(data, most)
	}
	return most
}

// assign finds a field for each option that stays whole: the protocol's own first, so that they are where every client
// looks for them, then the large ones, which are the hardest to place.
func assign(fields []field, options []Option) (homes []int, ok bool) {
	order := make([]int, 0, len(options))
	for i, o := range options {
		if len(o.Data) <= MaxPart {
			order = append(order, i)
		}
	}
	if len(fields) > 1 {
		slices.SortStableFunc(order, func(a, b int) int {
			own := func(i int) int {
				switch options[i].Code {
				case CodeMessageType, CodeOverload: // a client knows of the other fields by option 52 alone
					return 2
				}
				return rank(options[i].Code) / len(importance)
			}
			return cmp.Or(own(b)-own(a), len(options[b].Data)-len(options[a].Data))
		})
	}
	homes = make([]int, len(options))
	for _, i := range order {
		size := 2 + len(options[i].Data)
		home := slices.IndexFunc(fields, func(f field) bool { return f.left >= size })
		if home < 0 {
			return nil, false
		}
		homes[i] = home
		fields[home].left -= size
	}
	return homes, true
}
