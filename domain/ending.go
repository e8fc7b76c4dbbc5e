package domain

import "github.com/podnic/podnic/domain/internal/wire"

// How is how a guest ended.
type How int

const (
	// Unknown: it ended while nobody could see it, or it is no longer this host's (migrated).
	Unknown How = iota
	// Shutdown: the guest shut itself down, on its own or because it was asked to.
	Shutdown
	// Crashed: the guest's kernel panicked, or its emulator ended without having been told to (killed by the kernel for
	// memory, SIGKILL, a fault).
	Crashed
	// DestroyedByOther: somebody else ended it: virsh destroy, virsh save, SIGTERM to the emulator.
	DestroyedByOther
	// DestroyedAfterGrace: Stop destroyed it, since it had not shut down in time.
	DestroyedAfterGrace
)

// String is the ending in the words of a log line.
func (h How) String() string {
	switch h {
	case Shutdown:
		return "shut down"
	case Crashed:
		return "crashed"
	case DestroyedByOther:
		return "destroyed by somebody else"
	case DestroyedAfterGrace:
		return "destroyed after the grace period"
	default:
		return "ended in an unknown way"
	}
}

// Ending is how a guest ended, and why in libvirt's view: one line of text.
type Ending struct {
	How    How
	Reason string
}

// GuestState is what a guest is doing, as a word or two for a status.
type GuestState string

// The states of a guest. There is none for a guest that has ended: that is an Ending.
const (
	GuestRunning      GuestState = wire.Running
	GuestPaused       GuestState = wire.Paused
	GuestSuspended    GuestState = wire.Suspended // by itself, to memory or disk
	GuestShuttingDown GuestState = wire.ShuttingDown
	// GuestCrashed is that of a guest that panicked and, by <on_crash>preserve</on_crash>, was left for inspection: its
	// emulator lives and has the tap open, so it has not ended. However it ends, that ending is Crashed.
	GuestCrashed    GuestState = wire.Crashed
	GuestRestarting GuestState = wire.Restarting
)

// event is what a connection has to tell about a guest.
type event struct {
	uuid  string
	state GuestState
	// ended says that the guest is gone. how and reason then say how it ended; with a state, they say what an ending
	// that follows from that state would mean, where libvirt's last word does not.
	ended  bool
	how    How
	reason string
	// device is the alias of one that the guest has given up or, if kept, refuses to. Then the rest is empty.
	device string
	kept   bool
}

// sighting is the event of a state that was looked up.
func sighting(uuid string, state GuestState) event {
	e := event{uuid: uuid, state: state}
	if state == GuestCrashed {
		e.how, e.reason = Crashed, "the guest panicked"
	}
	return e
}
