package rtnl

import (
	"bytes"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"pgregory.net/rapid"
)

// TestAttributesAreThoseOfTheLibrary makes attributes with the library and reads them with both.
func TestAttributesAreThoseOfTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var message []byte
		for range rapid.IntRange(0, 5).Draw(t, "number") {
			kind := rapid.IntRange(0, 1<<16-1).Draw(t, "kind")
			value := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "value")
			message = append(message, nl.NewRtAttr(kind, value).Serialize()...)
		}
		want, err := nl.ParseRouteAttr(message)
		if err != nil {
			t.Fatal(err)
		}
		got, err := attributes(message)
		if err != nil {
			t.Fatal(err)
		}
		for kind, value := range got.all {
			if len(want) == 0 || want[0].Attr.Type&nl.NLA_TYPE_MASK != kind || !bytes.Equal(want[0].Value, value) {
				t.Fatalf("%x: attribute %d is %x", message, kind, value)
			}
			if _, there := got.find(kind); !there {
				t.Fatalf("%x: attribute %d is not found", message, kind)
			}
			want = want[1:]
		}
		if len(want) > 0 {
			t.Fatalf("%x: %d attributes are missing", message, len(want))
		}
	})
}

// TestDamagedAttributesAreAnError reads anything: what is accepted can be walked to its end.
func TestDamagedAttributesAreAnError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got, err := attributes(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes"))
		if err == nil {
			for range got.all {
			}
		}
	})
	for _, damaged := range [][]byte{{8}, {3, 0, 1, 0}, {8, 0, 1, 0, 1}} {
		if _, err := attributes(damaged); err == nil {
			t.Errorf("%x is accepted", damaged)
		}
	}
}
