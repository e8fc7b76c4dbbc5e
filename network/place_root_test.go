package network

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/plan"
)

// TestRecordIsFoundByTheLink where too little is left of the wiring to tell the interface's name, which is one that the names
// of our links hold cut short.
func TestRecordIsFoundByTheLink(t *testing.T) {
	p := newTestPod(t)
	const long = "averylongname01"
	p.ip("link set eth0 name " + long)
	for _, c := range shapes["bridge"] {
		p.ip(strings.ReplaceAll(c, "eth0", long))
	}
	text := func() string { return volatile.ReplaceAllString(p.ip("-4 route")+p.ip("-4 -o addr"), "") }
	before := text()
	p.prepare()
	p.ip("link del " + long)
	p.ip("link del " + plan.NamesFor(long, "tap0").Bridge)
	if r := p.restore(); len(r.Warnings) > 0 {
		t.Errorf("the record was not found: %v", r.Warnings)
	}
	if after := text(); after != before {
		t.Errorf("was\n%s\nand is\n%s", before, after)
	}
	p.noFiles()
}

// TestRecordOfAnotherLinkIsNotBelieved changes the index, by which restore would take another link for the pod's.
func TestRecordOfAnotherLinkIsNotBelieved(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.ip("link add bystander index 77 type bridge")
	p.prepare()
	record, err := os.ReadFile(p.recordPath())
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Replace(record, []byte(`"index": 2`), []byte(`"index": 77`), 1)
	if bytes.Equal(forged, record) {
		t.Fatalf("no index in %s", record)
	}
	if err := os.WriteFile(p.recordPath(), forged, 0o600); err != nil {
		t.Fatal(err)
	}
	bystander := p.ip("link show bystander")
	r := p.restore()
	if !strings.Contains(strings.Join(r.Warnings, "\n"), "another link") {
		t.Errorf("warnings: %v", r.Warnings)
	}
	if after := p.ip("link show bystander"); after != bystander {
		t.Errorf("a link that is not the pod's was %s and is %s", bystander, after)
	}
	p.noFiles()
}

// TestReservedNamesAreRefused names the interface as one of podnic's own files.
func TestReservedNamesAreRefused(t *testing.T) {
	for _, name := range []string{"record.json", ".podnic", "hook.log"} {
		p := newTestPod(t)
		p.ip("link set eth0 name " + name)
		for _, c := range shapes["bridge"] {
			p.ip(strings.ReplaceAll(c, "eth0", name))
		}
		if err := p.tryPrepare(); !IsRefusal(err) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "rename it") {
			t.Errorf("prepare of %s: %v", name, err)
		}
		if _, err := RecordManaged(p.request()); !IsRefusal(err) {
			t.Errorf("a sidecar records %s: %v", name, err)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMarkerStaysWhileSomethingIsRecorded for a podnic of version 1, and in no directory that others can write.
func TestMarkerStaysWhileSomethingIsRecorded(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	first := p.dir + "/" + recordFile
	p.prepare()
	if b, err := os.ReadFile(first); err != nil || !bytes.Equal(b, marker) {
		t.Errorf("%q, %v", b, err)
	}
	other := Store{p.dir, "net1"}
	r, err := Store{p.dir, "eth0"}.Load()
	if err != nil {
		t.Fatal(err)
	}
	r.Options.Interface, r.Original.Links[0].Name = "net1", "net1"
	if err := other.Save(r); err != nil {
		t.Fatal(err)
	}
	p.restore()
	if _, err := os.Stat(first); err != nil {
		t.Errorf("another interface has a record: %v", err)
	}
	if err := other.Remove(); err != nil {
		t.Error(err)
	}
	p.noFiles()
	// A record of version 1 that is another namespace's stays what it is.
	past := bytes.Replace(readFile(t, "testdata/record.json"), []byte(`"eth0"`), []byte(`"net1"`), -1)
	if err := os.WriteFile(first, past, 0o600); err != nil {
		t.Fatal(err)
	}
	p.prepare()
	p.restore()
	if b := readFile(t, first); !bytes.Equal(b, past) {
		t.Errorf("another namespace's record is now %s", b)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p.prepare()
	if _, err := os.Stat(first); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written where everybody can: %v", err)
	}
	p.restore()
}
