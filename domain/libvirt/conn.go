//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/domain/internal/wire"
	"libvirt.org/go/libvirt"
)

// How soon a daemon that does not answer any more is taken for lost, as in virConnectSetKeepAlive: after this many
// unanswered questions, asked at this interval in seconds. A daemon that has ended is noticed at once.
const (
	keepAliveInterval = 5
	keepAliveCount    = 3
)

// conn is one connection to a daemon.
type conn struct {
	connect   *libvirt.Connect
	callbacks []int
}

// open connects and subscribes. send gets events, and that the connection is lost, from before open returns; it is called
// from libvirt's event loop.
func open(uri string, send func(wire.Message)) (*conn, error) {
	if err := startEventLoop(); err != nil {
		return nil, &wire.Error{
			Kind: wire.KindPermanent, Text: cause(err).Error(),
			Remedy: "install libvirt's client library (package libvirt0 or libvirt-libs)",
		}
	}
	resolve()
	connect, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, dialError(err)
	}
	s := &conn{connect: connect}
	if err := s.subscribe(send); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// subscribe asks for the events of all domains: the one to come has no UUID yet.
func (s *conn) subscribe(send func(wire.Message)) error {
	err := s.connect.RegisterCloseCallback(func(_ *libvirt.Connect, reason libvirt.ConnectCloseReason) {
		send(wire.Message{Lost: closeReason(reason)})
	})
	if err != nil && !errors.Is(err, libvirt.ERR_NO_SUPPORT) {
		return fmt.Errorf("ask libvirt to tell when the connection is lost: %w", cause(err))
	}
	// A driver within the process has no connection to lose, and a daemon may be too old for keep-alive; the end of the
	// socket is noticed without.
	_ = s.connect.SetKeepAlive(keepAliveInterval, keepAliveCount)
	for _, register := range []func(func(wire.Message)) (int, error){s.onLifecycle, s.onRemoved, s.onKept} {
		callback, err := register(send)
		if err != nil {
			return fmt.Errorf("subscribe to libvirt's events: %w", cause(err))
		}
		s.callbacks = append(s.callbacks, callback)
	}
	return nil
}

func (s *conn) onLifecycle(send func(wire.Message)) (int, error) {
	return s.connect.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		if translated, known := translate(e.Event, e.Detail); known {
			tell(send, d, translated)
		}
	})
}

func (s *conn) onRemoved(send func(wire.Message)) (int, error) {
	return s.connect.DomainEventDeviceRemovedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventDeviceRemoved) {
		tell(send, d, wire.Event{Device: e.DevAlias})
	})
}

func (s *conn) onKept(send func(wire.Message)) (int, error) {
	return s.connect.DomainEventDeviceRemovalFailedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventDeviceRemovalFailed) {
		tell(send, d, wire.Event{Device: e.DevAlias, Kept: true})
	})
}

// tell sends an event. One of a domain without identity is dropped.
func tell(send func(wire.Message), d *libvirt.Domain, e wire.Event) {
	uuid, err := d.GetUUIDString()
	if err != nil {
		return
	}
	e.UUID = uuid
	send(wire.Message{Event: &e})
}

// close also closes a connection that is lost, for which libvirt reports errors that say no more than that. No call may be
// under way: libvirt frees what it works with.
func (s *conn) close() {
	for _, callback := range s.callbacks {
		_ = s.connect.DomainEventDeregister(callback)
	}
	_ = s.connect.UnregisterCloseCallback()
	_, _ = s.connect.Close()
}

func (s *conn) start(xml string) (*wire.Domain, error) {
	d, err := s.connect.DomainCreateXML(xml, libvirt.DOMAIN_NONE)
	if err != nil {
		return nil, cause(err)
	}
	defer d.Free()
	uuid, err := d.GetUUIDString()
	if err != nil {
		return nil, cause(err)
	}
	return &wire.Domain{UUID: uuid}, nil
}

func (s *conn) find(name string) (*wire.Domain, error) {
	d, err := s.connect.LookupDomainByName(name)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return nil, nil
	}
	if err != nil {
		return nil, cause(err)
	}
	defer d.Free()
	state, err := stateOf(d)
	if errors.Is(err, errGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	uuid, err := d.GetUUIDString()
	if err != nil {
		return nil, cause(err)
	}
	xml, err := d.GetXMLDesc(0)
	if err != nil {
		return nil, cause(err)
	}
	return &wire.Domain{UUID: uuid, State: state, XML: []byte(xml)}, nil
}

func (s *conn) lookUp(uuid string) (*wire.Domain, error) {
	var state string
	err := s.with(uuid, func(d *libvirt.Domain) (err error) {
		state, err = stateOf(d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &wire.Domain{UUID: uuid, State: state}, nil
}

func (s *conn) describe(uuid string) (*wire.Domain, error) {
	var xml string
	err := s.with(uuid, func(d *libvirt.Domain) (err error) {
		xml, err = d.GetXMLDesc(0)
		return cause(err)
	})
	if err != nil {
		return nil, err
	}
	return &wire.Domain{UUID: uuid, XML: []byte(xml)}, nil
}

func (s *conn) update(uuid, device string) error {
	return s.with(uuid, func(d *libvirt.Domain) error {
		return cause(d.UpdateDeviceFlags(device, libvirt.DOMAIN_DEVICE_MODIFY_LIVE))
	})
}

func (s *conn) attach(uuid, device string) error {
	return s.with(uuid, func(d *libvirt.Domain) error {
		return cause(d.AttachDeviceFlags(device, libvirt.DOMAIN_DEVICE_MODIFY_LIVE))
	})
}

func (s *conn) detach(uuid, alias string) error {
	return s.with(uuid, func(d *libvirt.Domain) error {
		return cause(d.DetachDeviceAlias(alias, libvirt.DOMAIN_DEVICE_MODIFY_LIVE))
	})
}

func (s *conn) shutdown(uuid string) error {
	return s.with(uuid, func(d *libvirt.Domain) error { return cause(d.Shutdown()) })
}

func (s *conn) destroy(uuid string) error {
	return s.with(uuid, func(d *libvirt.Domain) error { return cause(d.Destroy()) })
}

// version asks what is at the other end. A driver that has no hypervisor to speak of does not say its version.
func (s *conn) version() (*wire.Daemon, error) {
	driver, err := s.connect.GetType()
	if err != nil {
		return nil, cause(err)
	}
	daemon := &wire.Daemon{Driver: driver}
	if daemon.Libvirt, err = s.connect.GetLibVersion(); err != nil {
		return nil, cause(err)
	}
	daemon.Hypervisor, _ = s.connect.GetVersion()
	return daemon, nil
}

// with calls f with the domain, or returns errGone.
func (s *conn) with(uuid string, f func(*libvirt.Domain) error) error {
	d, err := s.connect.LookupDomainByUUIDString(uuid)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return errGone
	}
	if err != nil {
		return cause(err)
	}
	defer d.Free()
	return f(d)
}
