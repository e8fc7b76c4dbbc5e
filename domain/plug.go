package domain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/podnic/podnic/domain/domainxml"
)

// NoDeviceError says that the guest has no interface for a tap.
type NoDeviceError struct{ Domain, Tap string }

func (e *NoDeviceError) Error() string {
	return fmt.Sprintf("domain %q has no interface for %s", e.Domain, e.Tap)
}

// KeptError says that the guest did not give a device up.
type KeptError struct {
	Domain, Tap string
	// Refused says that it said so. Otherwise it did nothing in the time that it had.
	Refused bool
	Waited  time.Duration
}

func (e *KeptError) Error() string {
	if e.Refused {
		return fmt.Sprintf("the guest %q refuses to give up its interface of %s: something in the guest uses it", e.Domain, e.Tap)
	}
	return fmt.Sprintf("the guest %q has not given up its interface of %s within %s: its system may not be up yet, or does not know how to (PCI hot-plug)", e.Domain, e.Tap, e.Waited)
}

// Has reports whether the guest has an interface for a tap. A guest that has ended has none.
func (g *Guest) Has(tap string) (bool, error) {
	alias, err := g.aliasOf(tap)
	if errors.Is(err, errGone) {
		return false, nil
	}
	return alias != "", err
}

// Plug gives the guest, which runs, one more interface, unless it has one for that tap. The error has libvirt's text, and what
// to do where the machine has no place for a further card.
func (g *Guest) Plug(nic domainxml.NIC) error {
	has, err := g.Has(nic.Tap)
	if has || err != nil {
		return err
	}
	s, err := g.connection.conn()
	if err != nil {
		return err
	}
	if err := s.attach(g.uuid, nic.Device()); err != nil {
		remedy := ""
		if strings.Contains(err.Error(), "PCI slots") { // "No more available PCI slots"
			remedy = "; add <controller type='pci' model='pcie-root-port'/> to the domain's XML, one for each card that is to be plugged, and start it anew"
		}
		return fmt.Errorf("plug the interface of %s into domain %q: %w%s", nic.Tap, g.name, err, remedy)
	}
	return nil
}

// unplugAgain is how often a guest is asked to give a device up: one whose system is not up yet does not hear it.
const unplugAgain = 5 * time.Second

// Unplug asks the guest to give up its interface of a tap, and waits until it has, for at most patience. The error is a
// [NoDeviceError] where it has none, and a [KeptError] where it does not give it up. A guest that has ended has given it up.
func (g *Guest) Unplug(ctx context.Context, tap string, patience time.Duration) error {
	alias, err := g.aliasOf(tap)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if alias == "" {
		return &NoDeviceError{g.name, tap}
	}
	answer, done := g.awaitDevice(alias)
	defer done()
	over := time.NewTimer(patience)
	defer over.Stop()
	for asked := false; ; asked = true {
		err := g.askFor(alias)
		if errors.Is(err, errGone) {
			return nil
		}
		if err != nil && !asked {
			return fmt.Errorf("ask domain %q to give up the interface of %s: %w", g.name, tap, err)
		}
		select {
		case kept := <-answer:
			if kept {
				return &KeptError{Domain: g.name, Tap: tap, Refused: true}
			}
			return nil
		case <-time.After(unplugAgain):
		case <-over.C:
			if has, err := g.Has(tap); err == nil && !has {
				return nil
			}
			return &KeptError{Domain: g.name, Tap: tap, Waited: patience}
		case <-g.ended:
			return nil
		case <-g.connection.closed.Done():
			return errClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// What was said while the connection was lost was not heard, and QEMU does not like to be asked twice.
		if has, err := g.Has(tap); err == nil && !has {
			return nil
		}
	}
}

func (g *Guest) askFor(alias string) error {
	s, err := g.connection.conn()
	if err != nil {
		return err
	}
	return s.detach(g.uuid, alias)
}

// aliasOf is the alias of the guest's interface of a tap, empty when there is none.
func (g *Guest) aliasOf(tap string) (string, error) {
	s, err := g.connection.conn()
	if err != nil {
		return "", err
	}
	xml, err := s.describe(g.uuid)
	if err != nil {
		return "", err
	}
	d, err := domainxml.Parse(xml)
	if err != nil {
		return "", err
	}
	e, err := d.InterfaceOf(tap)
	if e == nil || err != nil {
		return "", err
	}
	alias := e.Alias
	if alias == "" {
		return "", errors.New("libvirt does not tell the interface's alias, by which podnic would name it")
	}
	return alias, nil
}

// awaitDevice is told what the guest says of a device: whether it keeps it.
func (g *Guest) awaitDevice(alias string) (<-chan bool, func()) {
	c := make(chan bool, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.devices == nil {
		g.devices = make(map[string]chan<- bool)
	}
	g.devices[alias] = c
	return c, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.devices, alias)
	}
}

// tellDevice tells those that wait for a device.
func (g *Guest) tellDevice(e event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.devices[e.device]; c != nil {
		select {
		case c <- e.kept:
		default: // it has been told
		}
	}
}
