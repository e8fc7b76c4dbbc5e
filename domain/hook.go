package domain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/network/identity"
)

// HookCall is one call of libvirt's qemu hook: its four arguments (https://libvirt.org/hooks.html).
type HookCall struct {
	Guest        string // the domain's name
	Operation    string
	SubOperation string
	Extra        string // "-" when there is none; of release, since libvirt 10.5, why the guest ended
}

// Operations of the qemu hook.
const (
	HookPrepare   = "prepare"   // before libvirt touches anything for a start
	HookStart     = "start"     // before it runs the emulator
	HookStarted   = "started"   // the emulator runs, the guest does not yet
	HookStopped   = "stopped"   // the emulator has ended
	HookRelease   = "release"   // libvirt has released all that it held for the guest, also after a start that failed
	HookReconnect = "reconnect" // the daemon was started again and finds the guest running
	HookAttach    = "attach"    // the daemon takes over an emulator that somebody else started
	HookMigrate   = "migrate"   // before an incoming migration; what is printed replaces the XML
	HookRestore   = "restore"   // before a saved guest is restored; likewise
)

// hookOperations are those that libvirt calls the hook for, each with its sub-operation (virHookQemuOp in
// src/util/virhook.c, and who calls it in src/qemu).
var hookOperations = map[string]string{
	HookPrepare: "begin", HookStart: "begin", HookStarted: "begin", HookStopped: "end", HookRelease: "end",
	HookReconnect: "begin", HookAttach: "begin", HookMigrate: "begin", HookRestore: "begin",
}

// NewHookCall takes the arguments of the hook.
func NewHookCall(args []string) (HookCall, error) {
	if len(args) != 4 {
		return HookCall{}, fmt.Errorf("libvirt's hook has four arguments (guest, operation, sub-operation, extra), not %d", len(args))
	}
	return HookCall{args[0], args[1], args[2], args[3]}, nil
}

// Known reports whether there is anything to do. What a later libvirt may call is not.
func (c HookCall) Known() bool {
	sub, known := hookOperations[c.Operation]
	return known && sub == c.SubOperation
}

// Tolerant reports whether libvirt kills a guest that runs when the hook fails, so that it must not.
func (c HookCall) Tolerant() bool { return c.Operation == HookReconnect || c.Operation == HookAttach }

// Reason is why the guest ended, empty where libvirt does not say.
func (c HookCall) Reason() string {
	if c.Extra == "-" {
		return ""
	}
	return c.Extra
}

// MetadataURI is the XML namespace of podnic's element in a domain's metadata, which marks the domain as podnic's.
const MetadataURI = "urn:podnic:domain:1"

// ReadXML reads a domain's XML, and no more of it than shows that it is longer than libvirt takes.
func ReadXML(r io.Reader) ([]byte, error) {
	xml, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the domain's XML: %w", err)
	}
	return xml, nil
}

// Marked reads a domain's XML until it finds MetadataURI, and reports whether it does: a domain without it has no element of
// podnic's, whatever else it holds, and whether it is XML or not. libvirt prints namespaces with libxml2, which never writes
// characters of this one as entities. The reader gives the document from its beginning, as much of it as ReadXML reads.
func Marked(r io.Reader) (io.Reader, bool) {
	var kept, window []byte
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		if len(kept) <= maxSize {
			kept = append(kept, buffer[:n]...)
		}
		window = append(window, buffer[:n]...)
		switch {
		case bytes.Contains(window, []byte(MetadataURI)):
			return io.MultiReader(bytes.NewReader(kept), r), true
		case err != nil:
			return bytes.NewReader(kept), false
		}
		// It may have begun.
		window = append(window[:0], window[max(0, len(window)-len(MetadataURI)+1):]...)
	}
}

// Pod is what the metadata says:
//
//	<podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0" binding="bridge"/>
//
// Both attributes may be left out.
type Pod struct {
	Interface string // the pod's interface
	Binding   string
}

// Pod is the metadata's element, nil when there is none. An element that cannot be understood whole is an error, since what
// it asks for would be missing without a word.
func (d *Document) Pod() (*Pod, error) {
	var found *Pod
	for _, e := range d.metadata() {
		if found != nil {
			return nil, fmt.Errorf("domain %q: two <pod> elements of %s in the metadata: leave one, since a guest gets one interface", d.Name(), MetadataURI)
		}
		found = new(Pod)
		for _, a := range e.Attr {
			switch {
			case isNamespace(a):
			case a.FullKey() == "interface":
				found.Interface = a.Value
			case a.FullKey() == "binding":
				found.Binding = a.Value
			default:
				return nil, fmt.Errorf("domain %q: <pod> in the metadata has the attribute %s, which this podnic does not know: remove it", d.Name(), restoreName(a.Key))
			}
		}
	}
	return found, nil
}

// metadata are podnic's elements in the domain's metadata.
func (d *Document) metadata() (found []*etree.Element) {
	for metadata := range named(d.top, "metadata") {
		for e := range metadata.ChildElementsSeq() {
			if e.Tag == "pod" && e.NamespaceURI() == MetadataURI {
				found = append(found, e)
			}
		}
	}
	return found
}

func isNamespace(a etree.Attr) bool { return a.Space == "xmlns" || a.FullKey() == "xmlns" }

// MayBePods reports whether an interface is a tap that somebody else than libvirt makes: without one, the guest is not
// podnic's, whatever its name.
func (d *Document) MayBePods() bool {
	for _, i := range d.Interfaces() {
		if i.Unmanaged(i.Tap) {
			return true
		}
	}
	return false
}

// Tap finds the interface that the pod's network is for, in a domain whose XML can no longer be changed: the one that is a
// tap which libvirt is not to make. Of several it is the one with the given name. The error says what to change.
func (d *Document) Tap(name string) (Interface, error) {
	var taps, named []Interface
	interfaces := d.Interfaces()
	for _, i := range interfaces {
		if !i.Unmanaged(i.Tap) {
			continue
		}
		taps = append(taps, i)
		if i.Tap == name {
			named = append(named, i)
		}
	}
	switch {
	case len(taps) == 1:
		return taps[0], nil
	case len(named) == 1:
		return named[0], nil
	case len(taps) > 1:
		return Interface{}, fmt.Errorf("domain %q: %d interfaces have a <target> with managed='no', and a pod gives one: "+
			"set dev='%s' on the one that is the pod's, and on no other", d.Name(), len(taps), name)
	case len(interfaces) == 0:
		return Interface{}, fmt.Errorf("domain %q has no interface for the pod's network: "+
			"add <interface type='ethernet'> with <target dev='%s' managed='no'/>", d.Name(), name)
	}
	// Which one is the pod's is not said, so the first one is the example.
	i := interfaces[0]
	if i.Type != "ethernet" {
		return Interface{}, fmt.Errorf("domain %q has no interface for the pod's network: "+
			"change <interface type='%s'> to type='ethernet', and its <target> to dev='%s' managed='no'", d.Name(), i.Type, name)
	}
	if i.Tap == "" {
		i.Tap = name
	}
	return Interface{}, fmt.Errorf("domain %q: change <target> of its interface to dev='%s' managed='no': "+
		"without that libvirt makes a tap of its own", d.Name(), i.Tap)
}

// Fits reports what an interface says that the pod cannot give, as what to change. Tap and Queues of the NIC are what is
// wired or wanted already, "" and 0 when anything will do.
func (i Interface) Fits(nic NIC) error {
	var change []string
	add := func(format string, args ...any) { change = append(change, "change "+fmt.Sprintf(format, args...)) }
	if nic.Tap != "" && i.Tap != nic.Tap {
		add("<target dev='%s'/> to dev='%s'", i.Tap, nic.Tap)
	} else if strings.HasPrefix(i.Tap, "vnet") {
		add("<target dev='%s'/> to a name that does not begin with vnet, which libvirt takes for its own", i.Tap)
	}
	switch i.MAC {
	case nic.MAC:
	case identity.MAC{}:
		change = append(change, fmt.Sprintf("add <mac address='%s'/>, the pod's", nic.MAC))
	default:
		add("<mac address='%s'/> to address='%s', the pod's", i.MAC, nic.MAC)
	}
	if nic.MTU > 0 && i.MTU > nic.MTU {
		add("<mtu size='%d'/> to size='%d', the pod's, or less", i.MTU, nic.MTU)
	}
	if have := i.TapQueues(); nic.Queues > 0 && have != nic.Queues {
		switch {
		case nic.Queues == 1:
			add("<driver queues='%d'/> to queues='1'", have)
		case i.multiqueue():
			add("<driver> to queues='%d'", nic.Queues)
		default:
			add("<model type='%s'/> to type='virtio', with <driver queues='%d'/>", i.Model, nic.Queues)
		}
	}
	if len(change) == 0 {
		return nil
	}
	return errors.New(strings.Join(change, "; "))
}

// TapQueues is how many queues the tap must have for the interface, at least 1.
func (i Interface) TapQueues() int {
	if i.multiqueue() {
		return max(i.Queues, 1)
	}
	return 1
}
