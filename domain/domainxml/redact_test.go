package domainxml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRedactedKeepsWhatConnectsTheGuest is by what a domain's XML may hold of secrets.
func TestRedactedKeepsWhatConnectsTheGuest(t *testing.T) {
	d, err := Parse([]byte(`<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>vm</name><uuid>6fc0e8f4-0b5d-4a3f-9d35-5c1f8f0d2a11</uuid>
  <!-- S3CRET -->
  <title>S3CRET</title><description>S3CRET</description>
  <metadata><a:b xmlns:a='urn:x' c='S3CRET'>S3CRET</a:b></metadata>
  <os><type arch='x86_64'>hvm</type><cmdline>token=S3CRET</cmdline><initenv name='S3CRET'>S3CRET</initenv></os>
  <sysinfo type='smbios'><system><entry name='serial'>ds=nocloud;S3CRET</entry></system></sysinfo>
  <devices>
    <interface type='ethernet'><mac address='0a:58:0a:f4:01:05'/><target dev='tap0' managed='no'/>
      <virtualport type='802.1Qbh'><parameters profileid='S3CRET'/></virtualport></interface>
    <disk type='network'><auth username='S3CRET'><secret type='ceph' usage='S3CRET'/></auth>
      <source protocol='https' name='S3CRET' query='token=S3CRET'><cookies><cookie name='a'>S3CRET</cookie></cookies></source></disk>
    <graphics type='vnc' passwd='S3CRET' port='5900'/>
  </devices>
  <qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:env name='A' value='S3CRET'/></qemu:commandline>
  <launchSecurity type='sev'><session>S3CRET</session></launchSecurity>
  <later password='S3CRET'><devices><interface type='S3CRET'>S3CRET</interface></devices></later>
</domain>`))
	if err != nil {
		t.Fatal(err)
	}
	got := string(d.Redacted())
	if strings.Contains(got, "S3CRET") {
		t.Error("a secret is in it")
	}
	for _, want := range []string{
		`<domain type="kvm"`, "<name>vm</name>", `<mac address="0a:58:0a:f4:01:05"/>`, `<target dev="tap0" managed="no"/>`,
		`<graphics type="vnc" passwd="left-out" port="left-out"/>`, "<cmdline>left-out</cmdline>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in it", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// TestRedactedIsADomain: what is left of each document of testdata is one, of the same name, with the same interfaces.
func TestRedactedIsADomain(t *testing.T) {
	files, err := filepath.Glob("testdata/fill/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Parse(before.Redacted())
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, before.Redacted())
			continue
		}
		if diff := cmp.Diff(before.Interfaces(), after.Interfaces()); diff != "" || before.Name() != after.Name() {
			t.Errorf("%s: %s is called %s: %s", file, before.Name(), after.Name(), diff)
		}
	}
}
