package nd

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestOptionsAreReadOneByOne: what can be read of a message is, whatever comes before or after it.
func TestOptionsAreReadOneByOne(t *testing.T) {
	const (
		mtu     = "0501000000000578"
		sender  = "01010a580af40105"
		unknown = "fd010000 00000000"
		broken  = "030140c000000000" // a prefix without its address
		prefix  = "030440c0 00000000 00000000 00000000 20010db8000100000000000000000000"
		search  = "1f04 0000 ffffffff 03737663 07636c75 73746572 056c6f63 616c0000 00000000"
	)
	for name, test := range map[string]struct{ message, want string }{
		"nothing":          {"", ""},
		"several":          {sender + mtu + prefix, "sender at=0a:58:0a:f4:01:05 mtu=1400 prefix=2001:db8:1::/64 (no more)"},
		"names":            {search, "search=svc.cluster.local"},
		"one of no use":    {unknown + mtu, "mtu=1400"},
		"one is malformed": {sender + broken + mtu, "sender at=0a:58:0a:f4:01:05 mtu=1400 malformed"},
		"of no length":     {sender + "0500000000000578", "sender at=0a:58:0a:f4:01:05 malformed"},
		"half of one":      {sender + "0501", "sender at=0a:58:0a:f4:01:05 malformed"},
		"a byte":           {"05", "malformed"},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(test.message, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		all, err := Options(b)
		var got []string
		for _, o := range all {
			text := o.Name + "=" + o.Value
			if o.Ended {
				text += " (no more)"
			}
			got = append(got, text)
		}
		if err != nil {
			got = append(got, "malformed")
		}
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("%s: %q, want %q", name, text, test.want)
		}
	}
}

// FuzzOptions looks for a message that the reader does not survive.
func FuzzOptions(f *testing.F) {
	f.Add([]byte{5, 1, 0, 0, 0, 0, 5, 0x78})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Options(b)
	})
}
