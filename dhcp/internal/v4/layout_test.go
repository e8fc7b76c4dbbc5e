package v4

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// TestOptionsAreLeftOutInTheDocumentedOrder gives a message less and less room, until only what it must have is left. The
// order is that of docs/dhcp.md.
func TestOptionsAreLeftOutInTheDocumentedOrder(t *testing.T) {
	must := []uint8{CodeMessageType, CodeServer, CodeLeaseTime, CodeMask, CodeClientID, CodeRelayAgent}
	for _, tt := range []struct{ may, want []uint8 }{
		{[]uint8{121, 3, 6, 26, 12, 15, 67, 66, 119, 224, 225, 42, 28}, []uint8{28, 42, 225, 224, 119, 66, 67, 15, 12, 26, 6, 3, 121}},
		{[]uint8{3, 249, 6, 28}, []uint8{28, 6, 249, 3}},
	} {
		var options []Option
		for _, code := range slices.Concat(must, tt.may) {
			options = append(options, Option{code, make([]byte, 8)})
		}
		for missing := range len(tt.want) + 1 {
			room := 10*(len(options)-missing) + 1
			_, short, err := Lay(make([]byte, OffOptions), slices.Clone(options), Layout{Room: room})
			if err != nil || !slices.Equal(short.LeftOut, tt.want[:missing]) || len(short.Cut) > 0 {
				t.Errorf("with room for %d fewer: left out %+v, want %v, %v", missing, short, tt.want[:missing], err)
			}
		}
		if _, _, err := Lay(make([]byte, OffOptions), slices.Clone(options), Layout{Room: 10*len(must) - 1}); err != drop.NoRoom {
			t.Errorf("without room for what must be sent: %v", err)
		}
	}
}

// TestWhatFitsIsSent draws options and room: none that is left out would have fitted beside what is sent.
func TestWhatFitsIsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options := []Option{{CodeMessageType, []byte{2}}}
		codes := []uint8{3, 6, 12, 15, 26, 28, 42, 66, 67, 119, 121, 224, 225, 249}
		for _, code := range rapid.SliceOfNDistinct(rapid.SampledFrom(codes), 1, len(codes), rapid.ID).Draw(t, "options") {
			options = append(options, Option{code, make([]byte, rapid.IntRange(1, 400).Draw(t, "size"))})
		}
		l := Layout{
			Room: rapid.IntRange(60, 1200).Draw(t, "room"), File: rapid.Bool().Draw(t, "file"), Sname: rapid.Bool().Draw(t, "sname"),
		}
		_, short, err := Lay(make([]byte, OffOptions), options, l)
		if err != nil {
			t.Fatal(err)
		}
		missing := func(code uint8) bool {
			return slices.Contains(short.LeftOut, code) || code == CodeRoutesMS && len(short.LeftOut) > 0 && indexOf(options, CodeRoutes) >= 0
		}
		for _, left := range short.LeftOut {
			more := slices.DeleteFunc(slices.Clone(options), func(o Option) bool { return o.Code != left && missing(o.Code) })
			if _, ok := arrange(nil, more, l); ok {
				t.Fatalf("option %d is left out of %v, and would have fitted", left, options)
			}
		}
	})
}
