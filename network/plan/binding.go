package plan

import (
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
)

// What options and records call the bindings.
const (
	// BindingAuto leaves the choice to podnic: the first of Automatic that accepts the link and all that is on it. No wiring
	// has it.
	BindingAuto = "auto"
	// BindingBridge joins NIC and tap with a bridge.
	BindingBridge = "bridge"
	// BindingManagedTap says that KubeVirt's node agent joins NIC and tap, and not podnic. Nobody can ask for it: it is what
	// a record has that a sidecar made, and what inspecting such a namespace finds.
	BindingManagedTap = "managedTap"
	// BindingRedirect hands the frames of one link to the other, and leaves the pod's as it is.
	BindingRedirect = "redirect"
	// BindingShared is a redirect that leaves ports of the address to the pod's containers.
	BindingShared = "shared"
)

// Automatic are the bindings that BindingAuto chooses from, in order.
var Automatic = []string{BindingBridge, BindingRedirect}

// Binding is a way to join the pod's link and a guest's tap. It answers for all that depends on the way. What is not said
// here is the same for all of them. Bindings are comparable values.
type Binding interface {
	// Name is what options and records call it.
	Name() string
	// Ours reports whether podnic makes and changes such a wiring, or somebody else does and podnic only serves it.
	Ours() bool

	// KeepsNIC reports whether the pod's link stays as it is. Then its addresses, routes and neighbours are neither moved nor
	// put back, so that it does not matter whether podnic could.
	KeepsNIC() bool

	// Accepts refuses a link that a guest cannot be given this way, with the reason and the remedy. all are the links of the
	// namespace, nexthops the nexthop objects on this one.
	Accepts(nic Link, all []Link, nexthops []uint32) error
	// Names are what the links of the wiring of an interface are called.
	Names(iface, tap string) Names
	// Made reports whether a wiring of ours is of this binding, by the same two: of exactly one of those that are ours.
	Made(nic Link, marked []Link) bool
	// Recognize tells the names from what is there: the pod's link and the links of ours that were made for it. guessed says
	// that too little of ours is left to tell the interface's name for certain. tap is the tap's name where there is none.
	Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool)
	// Role is the part that a link plays, other than the pod's own, which has the index nic. false: none.
	Role(l Link, nic int, names Names) (Role, bool)

	// Wired is the namespace that a guest needs, given what the pod's interface held.
	Wired(original *Snapshot, o Options) *Snapshot
	// Filter keeps the guest's DHCP with the server and the pod's own stack out of the guest's reach. FilterFamily is where it
	// is.
	Filter(original *Snapshot, o Options) *Filter
	FilterFamily() *FilterFamily
	// Rebuild is the original as far as a wired namespace itself carries it. It serves programs that cannot read the record,
	// and the case that it is lost.
	Rebuild(wired *Snapshot, names Names) *Snapshot
	// Options are what the wiring was made with, as far as it tells.
	Options(wired *Snapshot, names Names) Options

	// Identify says who the guest has to be, and warns of what it does not get.
	Identify(original *Snapshot, o Options) (identity.Identity, []string)
	// ServerLink is the link on which a server hears the guest.
	ServerLink(names Names, socket string) string

	// Notes say what others have changed since, which is not a deviation.
	Notes(original, current *Snapshot) []string

	// steps plans, in the order in which it has to happen. deviations compares the pod's own link.
	steps(p *planner)
	deviations(c *comparison, have, want *Link)
}

// bindings are all that there are.
var bindings = []Binding{bridgeBinding{}, redirectBinding{}, sharedBinding{}, managedTapBinding{}}

// BindingOf is the binding of a name; nil when there is none.
func BindingOf(name string) Binding {
	for _, b := range bindings {
		if b.Name() == name {
			return b
		}
	}
	return nil
}

// BindingNames are what can be asked for: [BindingAuto], and the bindings that are ours.
func BindingNames() []string {
	names := []string{BindingAuto}
	for _, b := range bindings {
		if b.Ours() {
			names = append(names, b.Name())
		}
	}
	return names
}

// OneOf writes words as a choice: "a, b or c".
func OneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Recognize tells which binding of ours joins a link and what we made for it, and the names.
func Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool) {
	i := slices.IndexFunc(bindings, func(b Binding) bool { return b.Made(nic, marked) })
	return bindings[i].Recognize(nic, marked, tap)
}

// NamesFor are the names of the links of a bridge.
func NamesFor(iface, tap string) Names { return bridgeBinding{}.Names(iface, tap) }

// ManagedTapNames are the names of the links that KubeVirt's node agent makes for an interface.
func ManagedTapNames(iface string) Names { return managedTapBinding{}.Names(iface, "") }

// Wired is the namespace that a guest needs, given what the pod's interface held. It is a pure function.
func Wired(original *Snapshot, o Options) *Snapshot { return o.binding().Wired(original, o) }
