package network

import (
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// What results and requests of this package are made of is [plan]'s, and has a name here as well, so that who composes
// commands need not know of it.
type (
	Address      = plan.Address
	Filter       = plan.Filter
	Link         = plan.Link
	Names        = plan.Names
	Options      = plan.Options
	RefusalError = plan.RefusalError
	Role         = plan.Role
	Snapshot     = plan.Snapshot
	Step         = plan.Step
)

// Roles of links, and where a deviation of the filter is.
const (
	NIC         = plan.NIC
	Bridge      = plan.Bridge
	Tap         = plan.Tap
	Placeholder = plan.Placeholder
	FilterPlace = plan.FilterPlace
)

// What options can say.
const (
	BindingBridge     = plan.BindingBridge
	BindingManagedTap = plan.BindingManagedTap
	SocketPacket      = plan.SocketPacket
	SocketUDP         = plan.SocketUDP
	DefaultTap        = plan.DefaultTap
)

// Refuse is [plan.Refuse].
func Refuse(format string, args ...any) error { return plan.Refuse(format, args...) }

// Identify is [plan.Identify].
func Identify(original *Snapshot) (identity.Identity, []string) { return plan.Identify(original) }

// ServerMAC is [plan.ServerMAC].
func ServerMAC(original *Snapshot) identity.MAC { return plan.ServerMAC(original) }

// ManagedTapNames is [plan.ManagedTapNames].
func ManagedTapNames(iface string) Names { return plan.ManagedTapNames(iface) }
