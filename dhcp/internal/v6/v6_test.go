package v6

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// values are the options of a message by their codes, read without the library.
func values(t *testing.T, message []byte) map[uint16][]byte {
	t.Helper()
	all := make(map[uint16][]byte)
	for b := message[headerLen:]; len(b) > 0; {
		if len(b) < 4 || int(binary.BigEndian.Uint16(b[2:])) > len(b)-4 {
			t.Fatalf("the options do not end with the message: %x", b)
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		all[binary.BigEndian.Uint16(b)] = b[4 : 4+n]
		b = b[4+n:]
	}
	return all
}

func encode(t *testing.T, a Answer, size int) ([]byte, []string) {
	t.Helper()
	b, leftOut, err := a.Encode(size)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > size {
		t.Errorf("a message of %d bytes, of %d at most", len(b), size)
	}
	return b, leftOut
}

// TestNoOptionIsEmpty: of a list without entries the library makes an option without a value, and of a name that is none it
// panics.
func TestNoOptionIsEmpty(t *testing.T) {
	b, leftOut := encode(t, Answer{Type: Reply, FQDN: &FQDN{}, Search: []string{}, DNS: []netip.Addr{}, NTP: []netip.Addr{}, SNTP: []netip.Addr{}}, 1200)
	if len(b) != headerLen || len(leftOut) > 0 {
		t.Errorf("an answer of nothing: %x, left out %v", b, leftOut)
	}
}

// TestAddressesOfIPv4AreLeftOut: the library writes them mapped into IPv6, and no client reaches such an address.
func TestAddressesOfIPv4AreLeftOut(t *testing.T) {
	list := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("::ffff:10.96.0.10"), netip.MustParseAddr("2001:db8::53")}
	b, _ := encode(t, Answer{Type: Reply, DNS: list, SNTP: list, NTP: list}, 1200)
	got := values(t, b)
	for code, want := range map[uint16][]byte{
		CodeDNS: list[2].AsSlice(), CodeSNTP: list[2].AsSlice(), CodeNTP: append([]byte{0, 1, 0, 16}, list[2].AsSlice()...),
	} {
		if !bytes.Equal(got[code], want) {
			t.Errorf("option %d is %x", code, got[code])
		}
	}
	if b, _ = encode(t, Answer{Type: Reply, DNS: list[:2]}, 1200); len(b) != headerLen {
		t.Errorf("an answer with IPv4 alone: %x", b)
	}
}

// TestLengthsDoNotWrap: the library writes the lower 16 bits of the length of an option of 65536 bytes, and with it a
// message that means something else.
func TestLengthsDoNotWrap(t *testing.T) {
	var long Answer
	long.Type, long.BootFile = Reply, "http://[2001:db8::1]/"+strings.Repeat("x", 1<<16)
	for i := range 5000 {
		long.DNS = append(long.DNS, netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}))
		long.Search = append(long.Search, fmt.Sprintf("domain-%d.example.org", i))
	}
	b, leftOut := encode(t, long, 1200)
	got := values(t, b)
	if len(got) != 0 {
		t.Errorf("options %v", got)
	}
	if len(leftOut) != 3 {
		t.Errorf("left out %v", leftOut)
	}
}

// TestNamesHaveOneRoot: clean names have no final dot, of which the library would make a second root.
func TestNamesHaveOneRoot(t *testing.T) {
	b, _ := encode(t, Answer{Type: Reply, Search: []string{"a.example", "b.example"}, FQDN: &FQDN{Name: "vm.example"}}, 1200)
	got := values(t, b)
	if want := "\x01a\x07example\x00\x01b\x07example\x00"; string(got[CodeSearch]) != want {
		t.Errorf("the search list is %q", got[CodeSearch])
	}
	if want := "\x00\x02vm\x07example\x00"; string(got[CodeFQDN]) != want {
		t.Errorf("the name is %q", got[CodeFQDN])
	}
}

// TestNoRoomIsSaid: what the protocol wants is sent as a whole or not at all.
func TestNoRoomIsSaid(t *testing.T) {
	a := Answer{Type: Reply, Client: make([]byte, 130), Server: make([]byte, 10)}
	if _, _, err := a.Encode(150); !errors.Is(err, drop.NoRoom) {
		t.Errorf("error %v", err)
	}
	if b, _ := encode(t, a, 152); len(b) != 152 {
		t.Errorf("%d bytes", len(b))
	}
}

// TestMalformedOptionIsNamed: the library refuses the whole message for one option, and does not say for which.
func TestMalformedOptionIsNamed(t *testing.T) {
	option := func(code uint16, data ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, code)
		return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
	}
	client := option(CodeClientID, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1)
	for name, tt := range map[string]struct {
		options []byte
		want    string
	}{
		"a name of no bytes":          {append(client, option(CodeFQDN)...), "the option 39 (fqdn)"},
		"half an association":         {append(client, option(CodeIANA, 0, 0)...), "the option 3 (iana)"},
		"an option over the end":      {append(client, 0, 23, 0, 99, 1), "the option 23 (dns)"},
		"bytes after the last":        {append(client, 0, 0, 0), "the message"},
		"an unknown one over the end": {append(client, 0xff, 0, 0, 9), "the option 65280"},
	} {
		m, err := Decode(append([]byte{byte(Solicit), 1, 2, 3}, tt.options...))
		var malformed *MalformedError
		if !errors.As(err, &malformed) || !errors.Is(err, drop.Malformed) || err.Error() != "malformed" {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		if malformed.String() != tt.want || m.Type != Solicit || m.Transaction != 0x010203 {
			t.Errorf("%s: it is in %s of %v", name, malformed, m)
		}
	}
}

// FuzzDecode: what is read of a message is what stands there, and an answer to it can be read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 2, 0, 23})
	f.Add([]byte{11, 1, 2, 3, 0, 39, 0, 5, 0, 3, 'v', 'm', 0xc0, 0, 15, 0, 3, 0, 1, 'x'})
	f.Add([]byte{3, 1, 2, 3, 0, 1, 0, 20, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18})
	f.Add([]byte{12, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		Details(b)
		m, err := Decode(b)
		if err != nil {
			return
		}
		if m.Client != nil {
			if got := values(t, b)[CodeClientID]; strings.Count(string(b), "\x00\x01") == 1 && !bytes.Equal(got, m.Client) {
				t.Errorf("the client %x is read as %x", got, m.Client)
			}
		}
		a := Answer{Type: Reply, Transaction: m.Transaction, Client: m.Client}
		for _, ia := range m.IAs {
			a.Bindings = append(a.Bindings, Binding{Code: ia.Code, ID: ia.ID})
		}
		out, _, err := a.Encode(1 << 15)
		if err != nil {
			return
		}
		again, err := Decode(out)
		if err != nil || again.Transaction != m.Transaction || !bytes.Equal(again.Client, m.Client) || len(again.IAs) != len(m.IAs) {
			t.Errorf("%v: the answer to %+v is %+v", err, m, again)
		}
		if !slices.EqualFunc(again.IAs, m.IAs, func(x, y IA) bool { return x.Code == y.Code && x.ID == y.ID }) {
			t.Errorf("the answer is to %v, not %v", again.IAs, m.IAs)
		}
	})
}
