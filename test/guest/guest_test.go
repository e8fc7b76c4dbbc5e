package guest

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConsoleTellsCompleteLinesAsTheyCome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	console, err := Follow(path)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	go func() {
		for _, piece := range []string{"guest: up\r\nguest: le", "ase address=10.244.1.2\r\n"} {
			file.WriteString(piece)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	line, err := console.Wait(ctx, "guest: lease")
	if err != nil || line != "guest: lease address=10.244.1.2" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestConsoleWaitEndsWithItsContextAndShowsTheLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console")
	if err := os.WriteFile(path, []byte("Kernel panic\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	console, err := Follow(path)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := console.Wait(ctx, "Kernel"); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = console.Wait(ctx, "guest: ready")
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("error %v", err)
	}
}

func TestFields(t *testing.T) {
	got := Fields("guest: lease address=10.244.1.2 routes= search=a.b,c")
	want := map[string]string{"address": "10.244.1.2", "routes": "", "search": "a.b,c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDomainIsWellFormedWhateverItsNames(t *testing.T) {
	text, err := Domain{
		Name: "a<b>&'c", Image: &Image{Kernel: "/k&", Initrd: "/i<"}, Console: "/tmp/it's", Arguments: []string{"x=<y>"},
	}.XML()
	if err != nil {
		t.Fatal(err)
	}
	var domain struct {
		Name    string `xml:"name"`
		Cmdline string `xml:"os>cmdline"`
		Serial  struct {
			Path string `xml:"path,attr"`
		} `xml:"devices>serial>source"`
	}
	if err := xml.Unmarshal([]byte(text), &domain); err != nil {
		t.Fatal(err)
	}
	if domain.Name != "a<b>&'c" || domain.Serial.Path != "/tmp/it's" || !strings.HasSuffix(domain.Cmdline, " x=<y>") {
		t.Errorf("read back %+v", domain)
	}
}

// TestArchiveMembersAreAligned checks the one thing about the format that goes wrong silently: the kernel stops at a member
// that does not start at a multiple of four.
func TestArchiveMembersAreAligned(t *testing.T) {
	var b bytes.Buffer
	a := newArchive(&b)
	a.directory("d")
	for size := range 5 {
		a.file(strings.Repeat("n", size+1), 0o644, bytes.Repeat([]byte("x"), size))
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	const members = 1 + 5 + 1 // and the trailer
	found := 0
	for at := 0; at < b.Len(); at += 4 {
		if bytes.HasPrefix(b.Bytes()[at:], []byte("070701")) {
			found++
		}
	}
	if found != members {
		t.Errorf("%d members at multiples of four, want %d", found, members)
	}
}
