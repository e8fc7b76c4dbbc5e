package domain

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/network/identity"
)

// TestUnplugEndsClearly plays a guest that is asked to give up its card: what it does, what the caller is told, and how often
// the guest was asked.
func TestUnplugEndsClearly(t *testing.T) {
	const (
		with    = `<domain><name>vm</name><devices><interface type='ethernet'><target dev='tap1' managed='no'/><alias name='net1'/></interface></devices></domain>`
		without = `<domain><name>vm</name><devices/></domain>`
	)
	gone := func(d *daemon) {
		d.mu.Lock()
		d.xml = without
		d.mu.Unlock()
	}
	for name, test := range map[string]struct {
		xml   string
		react func(*daemon)
		busy  error
		says  string // of the error, empty for none
		ended bool   // before it is asked, and nobody was told
		asked int
		after time.Duration
	}{
		"gives it up": {xml: with, react: func(d *daemon) { gone(d); d.tell(event{device: "net1"}) }, asked: 1},
		"refuses":     {xml: with, react: func(d *daemon) { d.tell(event{device: "net1", kept: true}) }, says: "refuses to give up its interface of tap1", asked: 1},
		"does nothing": {xml: with, react: func(d *daemon) { d.tell(event{device: "net0"}) }, says: "has not given up its interface of tap1 within 12s",
			asked: 3, after: 12 * time.Second},
		"gives it up late, and nobody hears": {xml: with, react: func(d *daemon) { time.Sleep(7 * time.Second); gone(d) }, asked: 2, after: 10 * time.Second},
		"ends":                               {xml: with, react: func(d *daemon) { d.tell(shutDown) }, asked: 1},
		"has ended":                          {xml: with, ended: true},
		"has ended when it is asked":         {xml: with, busy: errGone, asked: 1},
		"has none":                           {xml: without, says: "has no interface for tap1"},
		"cannot be asked":                    {xml: with, busy: errors.New("the monitor is busy"), says: "the monitor is busy", asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{xml: test.xml, busy: test.busy}
				if test.react != nil {
					react := test.react
					d.onDetach = func() { react(d) }
				}
				g := started(t, d)
				if test.ended {
					d.set("")
				}
				begin := time.Now()
				err := g.Unplug(t.Context(), "tap1", 12*time.Second)
				if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, want %q", err, test.says)
				}
				if d.asked != test.asked || time.Since(begin) != test.after {
					t.Errorf("asked %d times in %s", d.asked, time.Since(begin))
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestPlugGivesTheCardOnce: what the tap and the pod are goes to libvirt, the rest is libvirt's choice; a guest that has the card
// gets no second one.
func TestPlugGivesTheCardOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(daemon)
		g := started(t, d)
		nic := domainxml.NIC{Name: "net1", Tap: "tap1", MAC: identity.MAC{0x0a, 0x58, 0, 0, 0, 1}, MTU: 1400, Queues: 2, Alias: domainxml.AliasOf("net1")}
		if err := g.Plug(nic); err != nil {
			t.Fatal(err)
		}
		const want = `<interface type="ethernet"><mac address="0a:58:00:00:00:01"/><target dev="tap1" managed="no"/><model type="virtio"/>` +
			`<driver queues="2"/><mtu size="1400"/><alias name="ua-net1"/></interface>` + "\n"
		if len(d.attached) != 1 || d.attached[0] != want {
			t.Errorf("plugged %q", d.attached)
		}
		d.busy = errors.New("internal error: No more available PCI slots")
		if err := g.Plug(nic); err == nil || !strings.Contains(err.Error(), "pcie-root-port") {
			t.Errorf("without a slot: %v", err)
		}
		nic.Tap = "tap0"
		if err := g.Plug(nic); err == nil || !strings.Contains(err.Error(), "does not tell the interface's alias") || len(d.attached) != 2 {
			t.Errorf("a guest that has it: %v, %q", err, d.attached)
		}
	})
}

// TestGuestThatHasEndedHasNoCard: what was wired for it is taken back, then, and does not wait for it to give up anything.
func TestGuestThatHasEndedHasNoCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(daemon)
		g := started(t, d)
		if has, err := g.Has("tap1"); has || err != nil {
			t.Errorf("another tap: %v, %v", has, err)
		}
		d.set("")
		if has, err := g.Has("tap0"); has || err != nil {
			t.Errorf("after its end: %v, %v", has, err)
		}
	})
}
