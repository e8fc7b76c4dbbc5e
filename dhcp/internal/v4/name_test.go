package v4

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/rfc1035label"
	"pgregory.net/rapid"
)

// TestSearchListIsWhatAnotherDecoderReads covers compression: names share suffixes, in every order and depth.
func TestSearchListIsWhatAnotherDecoderReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.SampledFrom([]string{"a", "b", "svc", "cluster", "local", strings.Repeat("x", 63)})
		name := rapid.Map(rapid.SliceOfN(label, 1, 4), func(l []string) string { return strings.Join(l, ".") })
		names := rapid.SliceOfN(name, 1, 40).Draw(t, "names")
		data := EncodeNames(names)
		got, err := rfc1035label.FromBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(names, got.Labels); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

func TestSearchListOfAPodIsCompressed(t *testing.T) {
	got := EncodeNames([]string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"})
	want := "\x07default\x03svc\x07cluster\x05local\x00\xc0\x08\xc0\x0c"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
