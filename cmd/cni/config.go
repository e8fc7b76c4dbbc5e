package cni

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap/zapcore"
)

// BindingManagedTap leaves the wiring to KubeVirt's node agent, which makes it after the pod's network is set up.
const BindingManagedTap = "managedTap"

// DefaultStateDir is where the records are kept: they are of one boot, as network namespaces are.
const DefaultStateDir = "/run/podnic/cni"

// lockTimeout is how long to wait for another podnic in the namespace. A kubelet tries again after more than that.
var lockTimeout = 10 * time.Second

// config is the plugin's part of a network configuration.
type config struct {
	types.PluginConf
	Binding   string  `json:"binding"`
	Interface string  `json:"interface"`
	Owner     *uint32 `json:"owner"`
	Group     *uint32 `json:"group"`
	Tap       string  `json:"tap"`
	Queues    int     `json:"queues"`
	Socket    string  `json:"socket"`
	Guard     *bool   `json:"spoofGuard"`
	IPv6      string  `json:"ipv6"`
	// PodPorts, GuestPorts and SourcePorts are those of the binding shared. The last are what net.ipv4.ip_local_port_range is
	// set to.
	PodPorts    plan.Ports     `json:"podPorts"`
	GuestPorts  plan.Ports     `json:"guestPorts"`
	SourcePorts plan.PortRange `json:"sourcePorts"`
	StateDir    string         `json:"stateDir"`
	LogFile     string         `json:"logFile"`
	LogLevel    zapcore.Level  `json:"logLevel"`
	Args        struct {
		CNI struct {
			// LogicNetworkName is what KubeVirt calls a virtual machine's network, and how it says which one a binding's
			// network attachment is for (kubevirt, pkg/network/multus/annotation.go).
			LogicNetworkName string `json:"logicNetworkName"`
		} `json:"cni"`
	} `json:"args"`

	// unknown are keys that nobody knows: most likely misspelt.
	unknown []string
}

// known are the keys of a configuration: the specification's, those of Multus, and ours.
var known = []string{
	"cniVersion", "name", "type", "args", "capabilities", "runtimeConfig", "prevResult", "ipam", "dns",
	"cni.dev/valid-attachments", "cni.dev/attachments", "deviceID", "pciBusID",
	"binding", "interface", "owner", "group", "tap", "queues", "socket", "ipv6", "spoofGuard",
	"podPorts", "guestPorts", "sourcePorts", "stateDir", "logFile", "logLevel",
}

// parse reads a configuration and fills in the defaults. accept decides of each key whose value is not of its kind: where it
// returns nil, the key is left out.
func parse(stdin []byte, accept func(error) error) (*config, error) {
	c := new(config)
	var keys map[string]json.RawMessage
	err := json.Unmarshal(stdin, &keys)
	if _, isNoMap := errors.AsType[*json.UnmarshalTypeError](err); isNoMap {
		err = errors.New("it is not a JSON object")
	}
	if err == nil && json.Unmarshal(stdin, c) != nil {
		c, err = eachKey(keys, accept)
	}
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("the network configuration cannot be decoded: %v", err), "")
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(known, key) {
			c.unknown = append(c.unknown, key)
		}
	}
	if c.Binding == "" {
		c.Binding = plan.BindingAuto
	}
	if c.Socket == "" {
		c.Socket = plan.SocketUDP // no container of the pod need have a capability
	}
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir
	}
	return c, nil
}

// takes is what the keys take that are decoded.
var takes = map[string]string{
	"cniVersion": "a text", "name": "a text", "type": "a text", "binding": "a text", "interface": "a text", "tap": "a text", "socket": "a text",
	"ipv6": "a text", "stateDir": "a text", "logFile": "a text", "prevResult": "an object", "cni.dev/valid-attachments": "a list of objects",
	"owner": "a uid, a whole number", "group": "a gid, a whole number", "queues": "a whole number", "spoofGuard": "true or false",
	"podPorts": `a list of ports such as "80/tcp" or "8080-8083"`, "guestPorts": `a list of ports such as "22/tcp" or "8080-8083"`,
	"sourcePorts": `a range of ports such as "28232-32767"`, "logLevel": "debug, info, warn or error",
	"args": "an object", "dns": "an object", "ipam": "an object", "capabilities": "an object of true and false", "runtimeConfig": "an object",
}

// eachKey decodes a configuration key by key, and says which has a value that it does not take.
func eachKey(keys map[string]json.RawMessage, accept func(error) error) (*config, error) {
	c := new(config)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		alone, err := json.Marshal(map[string]json.RawMessage{key: keys[key]})
		if err == nil && json.Unmarshal(alone, new(config)) == nil {
			_ = json.Unmarshal(alone, c) // as it was just now
			continue
		}
		value := []rune(string(keys[key]))
		if len(value) > 60 {
			value = append(value[:60], '…')
		}
		meant := key // the decoder takes any case
		if i := slices.IndexFunc(known, func(name string) bool { return strings.EqualFold(name, key) }); i >= 0 {
			meant = known[i]
		}
		err = fmt.Errorf("%s takes %s, not %s", key, cmp.Or(takes[meant], "another kind of value"), string(value))
		if err := accept(err); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// check refuses what makes no sense. DEL and GC do without it: they must work whatever has become of the configuration.
func (c *config) check() error {
	invalid := func(format string, args ...any) error {
		return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
	}
	switch {
	case !knownBinding(c.Binding):
		return invalid("no binding is called %q: binding takes %s", c.Binding, plan.OneOf(bindingNames()))
	case c.Binding == BindingManagedTap && c.Socket != plan.SocketUDP:
		return invalid("with the binding managedTap the server has no capability, so socket takes udp, not %q", c.Socket)
	case c.Binding == BindingManagedTap && (c.Owner != nil || c.Group != nil || c.Queues != 0):
		return invalid("with the binding managedTap the tap is KubeVirt's: leave owner, group and queues out")
	case c.Binding == BindingManagedTap && c.Guard != nil:
		return invalid("with the binding managedTap there is no spoof guard: leave spoofGuard out")
	case !filepath.IsAbs(c.StateDir):
		return invalid("stateDir takes an absolute path, not %q", c.StateDir)
	case c.LogFile != "" && !filepath.IsAbs(c.LogFile):
		return invalid("logFile takes an absolute path, not %q", c.LogFile)
	}
	if err := c.options("eth0").Check(); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// knownBinding reports whether an attachment can have the binding.
func knownBinding(name string) bool { return slices.Contains(bindingNames(), name) }

// bindingNames are those that an attachment can have.
func bindingNames() []string { return append(plan.BindingNames(), BindingManagedTap) }

// options are those of a wiring of the interface.
func (c *config) options(iface string) plan.Options {
	o := plan.Options{
		Interface: iface, Binding: c.Binding, Socket: c.Socket,
		Tap: c.tap(iface), TapOwner: c.Owner, TapGroup: c.Group, Queues: c.Queues, IPv6: c.IPv6,
		SpoofGuard: c.Guard, PodPorts: c.PodPorts, GuestPorts: c.GuestPorts, Sources: c.SourcePorts,
	}
	if c.Binding == BindingManagedTap { // nothing of it is asked for
		o.Binding = plan.BindingAuto
	}
	return o
}

// tap is the tap's name; empty for the first that no other attachment's wiring has. Where KubeVirt asks, it is the one that
// KubeVirt looks for.
func (c *config) tap(iface string) string {
	switch {
	case c.Tap != "":
		return c.Tap
	case c.Args.CNI.LogicNetworkName != "":
		return plan.ManagedTapNames(iface).Tap
	}
	return ""
}

// previous is the result of the plugin before this one, in the newest version; nil where this one is the first.
func (c *config) previous() (*types100.Result, error) {
	err := version.ParsePrevResult(&c.PluginConf)
	if err != nil || c.PrevResult == nil {
		return nil, decodingError(err)
	}
	result, err := types100.NewResultFromResult(c.PrevResult)
	return result, decodingError(err)
}

func decodingError(err error) error {
	if err == nil {
		return nil
	}
	return types.NewError(types.ErrDecodingFailure, fmt.Sprintf("prevResult cannot be used: %v", err), "")
}
