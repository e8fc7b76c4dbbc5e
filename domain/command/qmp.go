package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
)

// Monitor is that of a QEMU, a QMP socket. QEMU answers one client of it at a time, and others may have something to ask, so
// each request is a connection of its own.
type Monitor struct {
	Path string
	// Timeout bounds a request: the library waits without a bound.
	Timeout time.Duration

	one sync.Mutex
}

// PowerDown asks the guest to shut down, as its power button would (system_powerdown in QEMU's qapi/machine.json). It does
// not wait until the guest has.
func (m *Monitor) PowerDown() error {
	err := m.connected(func(ask asker) error { return ask("system_powerdown", nil, nil) })
	if err != nil {
		return fmt.Errorf("ask for a shutdown at %s: %w", m.Path, err)
	}
	return nil
}

// Quit ends QEMU, and does not ask the guest (quit in QEMU's qapi/control.json).
func (m *Monitor) Quit() error {
	err := m.connected(func(ask asker) error { return ask("quit", nil, nil) })
	if err != nil {
		return fmt.Errorf("end QEMU at %s: %w", m.Path, err)
	}
	return nil
}

// SetLink gives the network card with a MAC a carrier, or takes it away (set_link in QEMU's qapi/net.json). It does so by the
// name of the card's network, which every card tells, whatever its model is (netdev).
func (m *Monitor) SetLink(mac net.HardwareAddr, up bool) error {
	err := m.connected(func(ask asker) error {
		name, err := networkOf(ask, mac)
		if err != nil {
			return err
		}
		return ask("set_link", map[string]any{"name": name, "up": up}, nil)
	})
	if err != nil {
		return fmt.Errorf("set the link of the network card %s at %s: %w", mac, m.Path, err)
	}
	return nil
}

// asker runs a command of QMP and decodes what it returns, unless result is nil.
type asker func(command string, arguments, result any) error

// connected makes a request.
func (m *Monitor) connected(request func(ask asker) error) error {
	m.one.Lock()
	defer m.one.Unlock()
	monitor, err := qmp.NewSocketMonitor("unix", m.Path, m.Timeout)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := monitor.Connect()
		if err == nil {
			err = request(func(command string, arguments, result any) error { return run(monitor, command, arguments, result) })
		}
		done <- err
	}()
	select {
	case err = <-done:
	case <-time.After(m.Timeout):
		err = errors.New("no answer: is another client connected to it?")
	}
	_ = monitor.Disconnect() // which ends the exchange, too, if it goes on
	return err
}

func run(monitor qmp.Monitor, command string, arguments, result any) error {
	text, err := json.Marshal(qmp.Command{Execute: command, Args: arguments})
	if err != nil {
		return err
	}
	answer, err := monitor.Run(append(text, '\n'))
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, &struct{ Return any }{result}); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// devices are where a machine has its devices: those with an id, those without, and what QEMU itself has added.
var devices = []string{"/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached"}

// networkOf finds the network of the card with a MAC.
func networkOf(ask asker, mac net.HardwareAddr) (string, error) {
	for _, all := range devices {
		var list []struct{ Name, Type string }
		if err := ask("qom-list", map[string]any{"path": all}, &list); err != nil {
			continue // a machine without any
		}
		for _, one := range list {
			path := all + "/" + one.Name
			text := func(property string) (s string, err error) {
				return s, ask("qom-get", map[string]any{"path": path, "property": property}, &s)
			}
			if !strings.HasPrefix(one.Type, "child<") {
				continue
			}
			if own, err := text("mac"); err != nil || !strings.EqualFold(own, mac.String()) {
				continue // no network card, or another
			}
			return text("netdev")
		}
	}
	return "", errors.New("the machine has no network card with that MAC: give it mac=$(PODNIC_MAC)")
}
