//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"
	"testing"

	"github.com/podnic/podnic/domain/internal/wire"
	"libvirt.org/go/libvirt"
)

// Tests of the real client library against its driver test:///default, which is within the process and shared by all
// connections.

const testXML = `<domain type='test'><name>podnic</name><memory>1024</memory><os><type>hvm</type></os></domain>`

func TestWhatSomebodyElseDoesIsTold(t *testing.T) {
	events := make(chan wire.Event, 16)
	s, err := open("test:///default", func(m wire.Message) {
		if m.Event != nil {
			events <- *m.Event
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	started, err := s.start(testXML)
	if err != nil {
		t.Fatal(err)
	}
	somebody, err := libvirt.NewConnect("test:///default")
	if err != nil {
		t.Fatal(err)
	}
	defer somebody.Close()
	d, err := somebody.LookupDomainByUUIDString(started.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free()
	expect := func(want wire.Event) {
		t.Helper()
		want.UUID = started.UUID
		if got := <-events; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	look := func(want string) {
		t.Helper()
		if found, err := s.lookUp(started.UUID); err != nil || found.State != want {
			t.Errorf("found %+v, %v, want %s", found, err, want)
		}
	}

	expect(wire.Event{State: wire.Running})
	look(wire.Running)
	if err := d.Suspend(); err != nil {
		t.Fatal(err)
	}
	expect(wire.Event{State: wire.Paused})
	look(wire.Paused)
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	expect(wire.Event{State: wire.Running})
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
	expect(wire.Event{Ended: true, How: wire.ByOther, Reason: "the domain was destroyed"})

	if _, err := s.lookUp(started.UUID); !errors.Is(err, errGone) {
		t.Errorf("look: %v", err)
	}
	if err := s.destroy(started.UUID); !errors.Is(err, errGone) {
		t.Errorf("destroy: %v", err)
	}
	if found, err := s.find("podnic"); found != nil || err != nil {
		t.Errorf("find: %+v, %v", found, err)
	}
}

// TestWaitingDoesNotMend says which of libvirt's errors end a podnic that waits for the daemon.
func TestWaitingDoesNotMend(t *testing.T) {
	for uri, remedy := range map[string]string{
		"nonsense":        "give a URI such as qemu:///system",
		"%%%":             "give a URI such as qemu:///system",
		"test:///no/file": "",
		"qemu:///system?socket=/nonexistent/socket": "",
	} {
		s, err := open(uri, func(wire.Message) {})
		if err == nil {
			s.close()
			t.Errorf("connected to %s", uri)
			continue
		}
		if got := wireError(err); got.Remedy != remedy || (got.Kind == wire.KindPermanent) != (remedy != "") {
			t.Errorf("%s: got %+v, want %q", uri, got, remedy)
		}
	}
}

// TestTranslate fixes what libvirt's words mean for the exit status.
func TestTranslate(t *testing.T) {
	for name, test := range map[string]struct {
		kind   libvirt.DomainEventType
		detail int
		want   wire.Event
	}{
		"booted":            {libvirt.DOMAIN_EVENT_STARTED, 0, wire.Event{State: wire.Running}},
		"reset":             {libvirt.DOMAIN_EVENT_RESUMED, 0, wire.Event{State: wire.Running}},
		"I/O error":         {libvirt.DOMAIN_EVENT_SUSPENDED, int(libvirt.DOMAIN_EVENT_SUSPENDED_IOERROR), wire.Event{State: wire.Paused}},
		"sleeps":            {libvirt.DOMAIN_EVENT_PMSUSPENDED, 0, wire.Event{State: wire.Suspended}},
		"panicked":          {libvirt.DOMAIN_EVENT_CRASHED, 0, wire.Event{State: wire.Crashed}},
		"SIGKILL":           {libvirt.DOMAIN_EVENT_STOPPED, int(libvirt.DOMAIN_EVENT_STOPPED_FAILED), stopped[libvirt.DOMAIN_EVENT_STOPPED_FAILED]},
		"a later libvirt's": {libvirt.DOMAIN_EVENT_STOPPED, 99, wire.Event{Ended: true, Reason: "libvirt gave a reason that podnic does not know"}},
	} {
		if got, known := translate(test.kind, test.detail); !known || got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
	for _, kind := range []libvirt.DomainEventType{libvirt.DOMAIN_EVENT_DEFINED, libvirt.DOMAIN_EVENT_UNDEFINED, 99} {
		if got, known := translate(kind, 0); known {
			t.Errorf("%d means %+v", kind, got)
		}
	}
}
