//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"

	"github.com/podnic/podnic/domain/internal/wire"
	"libvirt.org/go/libvirt"
)

// stateOf is the state of a domain, or errGone.
func stateOf(d *libvirt.Domain) (string, error) {
	state, _, err := d.GetState()
	switch {
	case errors.Is(err, libvirt.ERR_NO_DOMAIN):
		return "", errGone
	case err != nil:
		return "", cause(err)
	}
	switch state {
	case libvirt.DOMAIN_SHUTOFF:
		return "", errGone
	case libvirt.DOMAIN_PAUSED:
		return wire.Paused, nil
	case libvirt.DOMAIN_SHUTDOWN:
		return wire.ShuttingDown, nil
	case libvirt.DOMAIN_CRASHED:
		return wire.Crashed, nil
	case libvirt.DOMAIN_PMSUSPENDED:
		return wire.Suspended, nil
	}
	return wire.Running, nil
}

// stopped is what the details of VIR_DOMAIN_EVENT_STOPPED mean (virDomainEventStoppedDetailType in libvirt-domain.h).
var stopped = map[libvirt.DomainEventStoppedDetailType]wire.Event{
	libvirt.DOMAIN_EVENT_STOPPED_SHUTDOWN:  {Ended: true, How: wire.ByGuest, Reason: "the guest shut down"},
	libvirt.DOMAIN_EVENT_STOPPED_DESTROYED: {Ended: true, How: wire.ByOther, Reason: "the domain was destroyed"},
	libvirt.DOMAIN_EVENT_STOPPED_CRASHED:   {Ended: true, How: wire.ByCrash, Reason: "the guest crashed"},
	libvirt.DOMAIN_EVENT_STOPPED_MIGRATED:  {Ended: true, Reason: "the guest was migrated to another host"},
	libvirt.DOMAIN_EVENT_STOPPED_SAVED:     {Ended: true, How: wire.ByOther, Reason: "the guest was saved to a file"},
	// The daemon lost its connection to an emulator that it had not told to end.
	libvirt.DOMAIN_EVENT_STOPPED_FAILED:        {Ended: true, How: wire.ByCrash, Reason: "the emulator ended unexpectedly"},
	libvirt.DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: {Ended: true, How: wire.ByOther, Reason: "the domain was reverted to a snapshot of when it was off"},
	// A reboot by which the daemon replaces the emulator; VIR_DOMAIN_EVENT_STARTED follows.
	libvirt.DOMAIN_EVENT_STOPPED_RECREATED: {State: wire.Restarting},
}

// translate turns libvirt's lifecycle event into ours. Unknown are those that say nothing of a running guest: definitions,
// and what a newer libvirt may have.
func translate(kind libvirt.DomainEventType, detail int) (wire.Event, bool) {
	switch kind {
	case libvirt.DOMAIN_EVENT_STARTED, libvirt.DOMAIN_EVENT_RESUMED:
		return wire.Event{State: wire.Running}, true
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		return wire.Event{State: wire.Paused}, true
	case libvirt.DOMAIN_EVENT_PMSUSPENDED:
		return wire.Event{State: wire.Suspended}, true
	case libvirt.DOMAIN_EVENT_CRASHED:
		// What follows is up to <on_crash>: the end, a reset (RESUMED), or nothing at all.
		return wire.Event{State: wire.Crashed}, true
	case libvirt.DOMAIN_EVENT_SHUTDOWN:
		// The guest has halted; what follows is its end or, when it was asked to reboot this way, RESUMED.
		if libvirt.DomainEventShutdownDetailType(detail) == libvirt.DOMAIN_EVENT_SHUTDOWN_HOST {
			// Not the guest's doing.
			return wire.Event{
				State: wire.ShuttingDown, How: wire.ByOther,
				Reason: "the emulator was told to end, by a signal or its monitor",
			}, true
		}
		return wire.Event{State: wire.ShuttingDown}, true
	case libvirt.DOMAIN_EVENT_STOPPED:
		if e, known := stopped[libvirt.DomainEventStoppedDetailType(detail)]; known {
			return e, true
		}
		return wire.Event{Ended: true, Reason: "libvirt gave a reason that podnic does not know"}, true
	}
	return wire.Event{}, false
}
