package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commonFlags are the flags of every command.
type commonFlags struct {
	netns, binding, stateDir    string
	interfaces                  []string
	interfacesBy                string // what has set them, where that is not the command line
	tap                         string
	tapOwner, tapGroup          int64
	queues                      int
	podPorts, guestPorts        []string
	spoofGuard                  bool
	ipv6                        string
	lockTimeout                 time.Duration
	allowHost                   bool
	output, logLevel, logFormat string
	config                      string
	// unchecked takes whatever the configuration says: what gives an interface back goes by the record, whatever has become of
	// the configuration. byRecord does so with the values of a wiring that environment and file set, for all that works with
	// what is wired; what somebody types for the very command is refused. Either warns of what it takes.
	unchecked, byRecord bool
	warn                func(error)

	// configured are the flags that environment and file have set.
	configured []*pflag.Flag

	set *pflag.FlagSet
}

// bindingChoice is what --binding takes.
func bindingChoice() string {
	ours := slices.DeleteFunc(plan.BindingNames(), func(name string) bool { return name == plan.BindingAuto })
	return fmt.Sprintf("%s, or %s, the first of %s that takes it", strings.Join(ours, ", "), plan.BindingAuto, strings.Join(plan.Automatic, " and "))
}

func (f *commonFlags) add(set *pflag.FlagSet) {
	f.set = set
	set.StringVar(&f.netns, "netns", "", "work in the network namespace at this `path` (default: the caller's own)")
	set.StringArrayVar(&f.interfaces, "interface", nil, "an interface of the pod, as `NAME[,KEY=VALUE,...]` with the keys "+interfaceKeys+" in place of the flags of these names; can be repeated; all: every one that a guest can be given (default: to wire, the one with the default routes; to look at, serve or restore, all that are wired)")
	set.StringVar(&f.binding, "binding", plan.BindingAuto, "how the interface is joined to the tap: "+bindingChoice())
	set.StringVar(&f.stateDir, "state-dir", "/run/podnic", "the `directory` of each interface's record, which restore needs, and of the server's state")
	set.StringVar(&f.tap, "tap", plan.DefaultTap, "`name` of the guest's tap")
	set.Int64Var(&f.tapOwner, "tap-owner", -1, "the `uid` of the emulator, which may then open the tap without privileges")
	set.Int64Var(&f.tapGroup, "tap-group", -1, "the `gid` of the emulator, which may then open the tap without privileges; with --tap-owner it must have both")
	set.IntVar(&f.queues, "queues", 0, "queues of the tap (default: as many as the domain asks for, or 1)")
	set.StringSliceVar(&f.podPorts, "pod-ports", nil, "with --binding shared, the `ports` that the pod's containers keep, as PORT[-PORT][/tcp|/udp]; all others are the guest's")
	set.StringSliceVar(&f.guestPorts, "guest-ports", nil, "with --binding shared, the guest's `ports` that containers reach by 127.0.0.1, as PORT[-PORT][/tcp|/udp]")
	set.BoolVar(&f.spoofGuard, "spoof-guard", false, "drop what the guest sends with another MAC or address than the pod's")
	set.StringVar(&f.ipv6, "ipv6", plan.IPv6Auto, "serve: give the guest the pod's IPv6 addresses; pass: let IPv6 cross; off: let none cross; auto: serve where the pod has an address that no router advertisement made, else pass")
	set.DurationVar(&f.lockTimeout, "lock-timeout", 10*time.Second, "how long to wait for another podnic in the same namespace")
	set.BoolVar(&f.allowHost, "allow-host-namespace", false, "also work in the machine's own namespace, or a node's, and take it off its network")
	set.StringVarP(&f.output, "output", "o", "text", "`format` of the result: text or json")
	set.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	set.StringVar(&f.logFormat, "log-format", "", "console or json (default: console on a terminal, json otherwise)")
	set.StringVar(&f.config, "config", "", "read flags from this YAML `file`, by their names")
}

// request is what the flags ask of package network. Those of the wiring that nobody gave are left out, so that a wiring that
// is there is looked after as it was made, and not by the defaults.
func (f *commonFlags) request(socket string) (network.Request, error) {
	owner, err := idFlag("tap-owner", f.tapOwner)
	if err := f.accept("tap-owner", err); err != nil {
		return network.Request{}, err
	}
	group, err := idFlag("tap-group", f.tapGroup)
	if err := f.accept("tap-group", err); err != nil {
		return network.Request{}, err
	}
	given := func(name, value string) string {
		if f.set.Changed(name) {
			return value
		}
		return ""
	}
	var guard *bool
	if f.set.Changed("spoof-guard") {
		guard = &f.spoofGuard
	}
	podPorts, err := portsFlag("pod-ports", f.podPorts)
	if err := f.accept("pod-ports", err); err != nil {
		return network.Request{}, err
	}
	guestPorts, err := portsFlag("guest-ports", f.guestPorts)
	if err := f.accept("guest-ports", err); err != nil {
		return network.Request{}, err
	}
	req := network.Request{
		Namespace: f.netns,
		StateDir:  f.stateDir,
		Options: plan.Options{
			Binding: given("binding", f.binding), Socket: socket, Tap: given("tap", f.tap), TapOwner: owner, TapGroup: group, Queues: f.queues,
			SpoofGuard: guard, PodPorts: podPorts, GuestPorts: guestPorts,
			IPv6: given("ipv6", f.ipv6),
		},
		LockTimeout:        f.lockTimeout,
		AllowHostNamespace: f.allowHost,
	}
	check := func(o plan.Options) error { return checkValues(f.typed(o, socket)) }
	if err := check(req.Options); err != nil {
		return network.Request{}, usageError{err}
	}
	if err := checkValues(req.Options); err != nil {
		f.tell(err)
	}
	by := cmp.Or(f.interfacesBy, "--interface")
	err = addInterfaces(&req, f.interfaces, check, func(err error) error {
		if _, isName := errors.AsType[nameError](err); err == nil || isName && !f.unchecked {
			return err // else more would be meant than was named
		}
		if f.accept("interface", fmt.Errorf("%s: %w", by, err)) == nil {
			return nil
		}
		return err
	})
	if err != nil {
		return network.Request{}, usageError{fmt.Errorf("%s: %w", by, err)}
	}
	return req, nil
}

// takes reports whether the command takes whatever a flag was set to.
func (f *commonFlags) takes(name string) bool {
	return f.unchecked || f.byRecord && slices.ContainsFunc(f.configured, func(set *pflag.Flag) bool { return set.Name == name })
}

// accept is what is wrong with a flag's value, but where the command takes it.
func (f *commonFlags) accept(name string, err error) error {
	if err == nil || !f.takes(name) {
		return err
	}
	f.tell(err)
	return nil
}

// tell warns of what the command takes.
func (f *commonFlags) tell(err error) {
	if f.warn != nil {
		f.warn(err)
	}
}

// typed are the options without those that the command takes whatever they are.
func (f *commonFlags) typed(o plan.Options, socket string) plan.Options {
	for _, text := range []struct {
		name, set string
		option    *string
	}{{"binding", f.binding, &o.Binding}, {"tap", f.tap, &o.Tap}, {"ipv6", f.ipv6, &o.IPv6}, {"socket", socket, &o.Socket}} {
		if *text.option == text.set && f.takes(text.name) {
			*text.option = ""
		}
	}
	if o.Queues == f.queues && f.takes("queues") {
		o.Queues = 0
	}
	return o
}

// checkValues refuses options that no interface can have. Whether they go together is for who wires one to say.
func checkValues(o plan.Options) error {
	o.Interface, o.PodPorts, o.GuestPorts = "", nil, nil
	return o.Check()
}

func portsFlag(name string, texts []string) (plan.Ports, error) {
	ports, err := plan.ParsePorts(strings.Join(texts, ","))
	if err != nil {
		return nil, usageError{fmt.Errorf("--%s: %w", name, err)}
	}
	return ports, nil
}

func idFlag(name string, value int64) (*uint32, error) {
	if value == -1 {
		return nil, nil
	}
	if value < 0 || value >= 1<<32-1 {
		return nil, usageError{fmt.Errorf("--%s takes a number from 0 to %d, not %d", name, uint32(1<<32-2), value)}
	}
	id := uint32(value)
	return &id, nil
}

// json reports whether the result is to be JSON. also lists further formats of the command.
func (f *commonFlags) json(also ...string) (bool, error) {
	switch f.output {
	case "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, usageError{fmt.Errorf("--output takes %s, not %q", strings.Join(append([]string{"text", "json"}, also...), ", "), f.output)}
}

// asWired is the socket without the flag, where an interface may have to be wired first.
const asWired = "that of the wiring, and packet for a new one"

// socketFlag adds --socket, which decides how the namespace is wired. What it returns is empty where nobody gave the flag; without
// says what that means.
func socketFlag(cmd *cobra.Command, without string) func() string {
	socket := cmd.Flags().String("socket", "",
		"how the DHCP server hears the guest: packet (a packet socket on the tap; needs CAP_NET_RAW) or udp (a UDP socket on the bridge, or on the tap where there is none; needs no capability) (default: "+without+")")
	return func() string {
		if cmd.Flags().Changed("socket") {
			return *socket
		}
		return ""
	}
}

// serviceFlags are those of the commands that serve.
type serviceFlags struct {
	leaseTime                              string
	dns, ntp, search                       []string
	domainName, hostname, subnetMask, tftp string
	boot                                   []string
	mtu                                    int
	options                                []string
	resolvConf, metricsListen              string
}

func (f *serviceFlags) add(set *pflag.FlagSet) {
	set.StringVar(&f.leaseTime, "lease-time", "infinite", "lease time: infinite, or a `duration` such as 1h")
	set.StringSliceVar(&f.dns, "dns", nil, "name servers' `addresses` in place of the pod's")
	set.StringSliceVar(&f.search, "search", nil, "search `domains` in place of the pod's")
	set.StringVar(&f.domainName, "domain-name", "", "the guest's domain `name` (default: the first search domain)")
	set.StringSliceVar(&f.ntp, "ntp", nil, "`addresses` of time servers")
	set.StringVar(&f.hostname, "hostname", "", "the guest's host `name` (default: the pod's)")
	set.IntVar(&f.mtu, "mtu", 0, "MTU in `bytes` (default: the pod's)")
	set.StringVar(&f.subnetMask, "subnet-mask", dhcp.MaskGuest, "guest: the mask with which the guest reaches what the pod did; pod: the pod's own mask, for clients that ignore option 121")
	set.StringVar(&f.tftp, "tftp-server", "", "TFTP server's `name` or address (option 66)")
	set.StringArrayVar(&f.boot, "boot-file", nil, "boot file (option 67), as `[arch:NUMBER,][user-class:TEXT,]FILE`: a path on the TFTP server, or a URL; can be repeated, and the one with the most conditions that a client meets is sent to it, user-class before arch")
	set.StringArrayVar(&f.options, "option", nil, "a further DHCP option, as `CODE=TYPE:VALUE`; can be repeated")
	set.StringVar(&f.resolvConf, "resolv-conf", "", "`path` of the pod's resolver configuration (default: /etc/resolv.conf; with --netns, none)")
	set.StringVar(&f.metricsListen, "metrics-listen", "", "serve metrics for Prometheus at this `address`: unix:PATH, or HOST:PORT of the loopback, of an interface that the guest does not get, or of a port that the pod keeps (default: nowhere)")
}

// podResolver is where a pod has its resolver configuration, for programs in the pod.
const podResolver = "/etc/resolv.conf"

// inspectService says who the guest would be, as far as a process that does not serve can tell. From outside the pod, hostname and
// resolver would be somebody else's.
func (f *commonFlags) inspectService() offering.Service {
	if f.netns != "" {
		return offering.Service{Outside: true}
	}
	return offering.Service{ResolvConf: podResolver}
}

func (f *serviceFlags) service(common *commonFlags) (offering.Service, error) {
	s := common.inspectService()
	if f.resolvConf != "" {
		s.ResolvConf = f.resolvConf
	}
	s.Options = dhcp.Settings{
		Search: f.search, DomainName: f.domainName, Hostname: f.hostname, MTU: f.mtu, SubnetMask: f.subnetMask,
		TFTPServer: f.tftp,
	}
	var err error
	if f.leaseTime != "infinite" {
		if s.Options.LeaseTime, err = time.ParseDuration(f.leaseTime); err != nil || s.Options.LeaseTime < time.Second {
			return s, usageError{fmt.Errorf("--lease-time takes infinite, or a duration of at least a second such as 1h, not %q", f.leaseTime)}
		}
	}
	if s.Options.DNS, err = addressFlags("dns", f.dns); err != nil {
		return s, err
	}
	if s.Options.NTP, err = addressFlags("ntp", f.ntp); err != nil {
		return s, err
	}
	if f.metricsListen != "" {
		if s.Metrics, err = metrics.ParseAddress(f.metricsListen); err != nil {
			return s, usageError{fmt.Errorf("--metrics-listen: %w", err)}
		}
		s.Version = buildVersion()
	}
	for _, text := range f.boot {
		file, err := dhcp.ParseBootFile(text)
		if err != nil {
			return s, usageError{fmt.Errorf("--boot-file: %w", err)}
		}
		s.Options.BootFiles = append(s.Options.BootFiles, file)
	}
	for _, text := range f.options {
		option, err := dhcp.ParseOption(text)
		if err != nil {
			return s, usageError{fmt.Errorf("--option: %w", err)}
		}
		s.Options.Extra = append(s.Options.Extra, option)
	}
	if err := s.Options.Check(); err != nil {
		return s, usageError{err}
	}
	return s, nil
}

// reloadable is the service that the flags describe, and how to read those of the configuration file again. The server of each
// interface does so by itself.
func (a *app) reloadable(cmd *cobra.Command, f *serviceFlags) (offering.Service, error) {
	service, err := f.service(&a.common)
	service.Config = a.common.config
	var reading sync.Mutex
	service.Again = func() (offering.Service, error) {
		reading.Lock()
		defer reading.Unlock()
		if err := a.configureAgain(cmd); err != nil {
			return offering.Service{}, err
		}
		return f.service(&a.common)
	}
	return service, err
}

func addressFlags(name string, texts []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s takes IP addresses, not %q", name, text)}
		}
		list = append(list, a)
	}
	return list, nil
}
