package rtnl

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attributeSet holds the rtnetlink attributes of a message as they came. To look for the few that are wanted costs less
// than to sort all of them into a map, of which a message of a link has fifty.
type attributeSet []byte

// attributes checks the form of a message's attributes.
func attributes(b []byte) (attributeSet, error) {
	for rest := b; len(rest) > 0; rest = rest[min(len(rest), attributeSize(rest)):] {
		if size := attributeLength(rest); size < unix.SizeofRtAttr || size > len(rest) {
			return nil, fmt.Errorf("decode netlink attributes: %d bytes do not hold one of length %d", len(rest), size)
		}
	}
	return b, nil
}

// attributeLength is that of the first attribute, header included; attributeSize adds the padding up to the next one.
func attributeLength(b []byte) int {
	if len(b) < unix.SizeofRtAttr {
		return 0
	}
	return int(nl.NativeEndian().Uint16(b))
}

func attributeSize(b []byte) int {
	return (attributeLength(b) + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
}

// all are the attributes in their order. The flags in the type's upper bits (NLA_F_NESTED, NLA_F_NET_BYTEORDER) are
// cleared.
func (s attributeSet) all(yield func(kind uint16, value []byte) bool) {
	for len(s) > 0 {
		if !yield(nl.NativeEndian().Uint16(s[2:])&nl.NLA_TYPE_MASK, s[unix.SizeofRtAttr:attributeLength(s)]) {
			return
		}
		s = s[min(len(s), attributeSize(s)):]
	}
}

// find looks for an attribute.
func (s attributeSet) find(kind uint16) (value []byte, found bool) {
	for k, v := range s.all {
		if k == kind {
			return v, true
		}
	}
	return nil, false
}

// get is an attribute's value, nil when it is not there.
func (s attributeSet) get(kind uint16) []byte {
	value, _ := s.find(kind)
	return value
}

// u32 is an attribute of four bytes; 0 where it is shorter, or not there. u16 and u8 are likewise.
func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(b)
}

func u16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return nl.NativeEndian().Uint16(b)
}

func u8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func text(b []byte) string { return unix.ByteSliceToString(b) }
