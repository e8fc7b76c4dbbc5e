package qemuhook

import "fmt"

// Call is one call of libvirt's qemu hook: its four arguments (https://libvirt.org/hooks.html).
type Call struct {
	Guest        string // the domain's name
	Operation    string
	SubOperation string
	Extra        string // "-" when there is none; of release, since libvirt 10.5, why the guest ended
}

// Operations of the qemu hook.
const (
	Prepare   = "prepare"   // before libvirt touches anything for a start
	Start     = "start"     // before it runs the emulator
	Started   = "started"   // the emulator runs, the guest does not yet
	Stopped   = "stopped"   // the emulator has ended
	Release   = "release"   // libvirt has released all that it held for the guest, also after a start that failed
	Reconnect = "reconnect" // the daemon was started again and finds the guest running
	Attach    = "attach"    // the daemon takes over an emulator that somebody else started
	Migrate   = "migrate"   // before an incoming migration; what is printed replaces the XML
	Restore   = "restore"   // before a saved guest is restored; likewise
)

// operations are those that libvirt calls the hook for, each with its sub-operation (virHookQemuOp in
// src/util/virhook.c, and who calls it in src/qemu).
var operations = map[string]string{
	Prepare: "begin", Start: "begin", Started: "begin", Stopped: "end", Release: "end",
	Reconnect: "begin", Attach: "begin", Migrate: "begin", Restore: "begin",
}

// NewCall takes the arguments of the hook.
func NewCall(args []string) (Call, error) {
	if len(args) != 4 {
		return Call{}, fmt.Errorf("libvirt's hook has four arguments (guest, operation, sub-operation, extra), not %d", len(args))
	}
	return Call{args[0], args[1], args[2], args[3]}, nil
}

// Known reports whether there is anything to do. What a later libvirt may call is not.
func (c Call) Known() bool {
	sub, known := operations[c.Operation]
	return known && sub == c.SubOperation
}

// Tolerant reports whether libvirt kills a guest that runs when the hook fails, so that it must not.
func (c Call) Tolerant() bool { return c.Operation == Reconnect || c.Operation == Attach }

// Ends reports whether the guest has ended.
func (c Call) Ends() bool { return c.Operation == Stopped || c.Operation == Release }

// Reason is why the guest ended, empty where libvirt does not say.
func (c Call) Reason() string {
	if c.Extra == "-" {
		return ""
	}
	return c.Extra
}
