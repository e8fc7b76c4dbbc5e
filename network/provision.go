package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// Provision is what a DHCP server without any capability needs of the pod's namespace besides a wiring, and what only a
// process with privileges can give: settings of the kernel, and, where the wiring is to be somebody else's, an address to
// answer from and the filter. It is written to disk before the first change, so that it can be taken back.
type Provision struct {
	Version   int         `json:"version"`
	Namespace NamespaceID `json:"namespace"`
	// Sysctls are what the settings held before.
	Sysctls map[string]string `json:"sysctls"`
	// Sources is what net.ipv4.ip_local_port_range is set to, where guest and containers share the address. Empty: nobody has to.
	Sources string `json:"sources,omitempty"`
	// Capable says that the server has capabilities, and needs none of the other settings.
	Capable bool `json:"capable,omitempty"`
	// Links are the names of the wiring that somebody else makes. Nil where it is podnic's own, which has an address and a
	// filter itself, and where the interface has no address, so that nothing is served.
	Links *plan.Names `json:"links,omitempty"`
	// Blocked is what routes of the pod block, where Links are somebody else's to wire.
	Blocked []plan.Blocked `json:"blocked,omitempty"`
	// Address says that the loopback did not have the server's address before.
	Address bool `json:"address,omitempty"`
	// NoIPv4 says that the interface has no IPv4 address: where it is served, it is by IPv6 alone.
	NoIPv4 bool `json:"noIPv4,omitempty"`
	// IPv6 is what becomes of it where it does not pass, and Guest what the filter depends on then.
	IPv6  string     `json:"ipv6,omitempty"`
	Guest *GuestIPv6 `json:"guest,omitempty"`
	// Server is that address: each interface of a guest has a server of its own, and a guest can only tell them apart by it.
	// Earlier versions, which left it out, gave all of them the first one.
	Server netip.Addr `json:"server,omitzero"`
}

// provisionVersion is raised when an older podnic could not take back what a newer one gave: the alias of a pod's link, and a
// setting of IPv6.
const (
	provisionVersion       = 1
	provisionVersionOfIPv6 = 2
)

const unprivilegedPorts = "net/ipv4/ip_unprivileged_port_start"

// sysctls are the settings that a UDP server cannot do without, below /proc/sys.
var sysctls = map[string]string{
	// Port 67 may be bound without CAP_NET_BIND_SERVICE.
	unprivilegedPorts: "0",
	// A guest that renews writes from the pod's address, which is local here: without this the kernel takes its packets
	// for forged (fib_validate_source).
	"net/ipv4/conf/all/accept_local": "1",
	// The same packets come from where no route leads to the guest. What is accepted is the stricter of "all" and the
	// bridge's own (IN_DEV_RPFILTER), and the bridge, which is yet to be made, takes its own from "default": many a system
	// sets 1 or 2, and a bridge without an address passes neither (__fib_validate_source).
	"net/ipv4/conf/all/rp_filter":     "0",
	"net/ipv4/conf/default/rp_filter": "0",
}

// sysctls6 is what it cannot do without where IPv6 is served: the bridge, which is yet to be made, has IPv6.
var sysctls6 = map[string]string{"net/ipv6/conf/default/disable_ipv6": "0"}

// wanted are the settings that this one is to have, below /proc/sys.
func (p *Provision) wanted() map[string]string {
	all := make(map[string]string)
	if !p.Capable {
		maps.Copy(all, sysctls)
	}
	if p.IPv6 == plan.IPv6Serve {
		maps.Copy(all, sysctls6)
	}
	if p.Sources != "" {
		all[sourcesSysctl] = p.Sources
	}
	return all
}

const loopback plan.Role = "loopback"

// serverAddress is the address of a UDP server on a bridge that has none: on the loopback, where no other host sees it. The
// label of any but the first is the interface's name, by which the server knows which address is its own.
func (p *Provision) serverAddress() plan.Address {
	a := plan.Address{Link: loopback, Local: netip.PrefixFrom(p.server(), 32), Label: "lo", Scope: unix.RT_SCOPE_HOST}
	if p.Links != nil && p.server() != identity.ServerLinkLocal {
		a.Label = p.Links.Interface
	}
	return a
}

func (p *Provision) server() netip.Addr {
	if p.Server.IsValid() {
		return p.Server
	}
	return identity.ServerLinkLocal
}

// maxServers bounds how many interfaces of one guest are served: 169.254.75.10 and those that follow.
const maxServers = 32

// chooseServer gives the provision an address that none of those that it shares the namespace with has. One that is on the
// loopback already is used if its label says that it is the interface's, or if it is the first and its label says nothing:
// somebody put it there for this.
func (p *Provision) chooseServer(there []plan.Address, sharing []*Provision) error {
	address := identity.ServerLinkLocal
	for range maxServers {
		taken := slices.ContainsFunc(sharing, func(o *Provision) bool { return o.Links != nil && !o.NoIPv4 && o.server() == address })
		on := slices.IndexFunc(there, func(a plan.Address) bool { return a.Local.Addr() == address })
		switch {
		case taken:
		case on < 0 || there[on].Link == loopback && there[on].Label == p.Links.Interface:
			p.Server, p.Address = address, true
			return nil
		case address == identity.ServerLinkLocal && there[on].Link == loopback && there[on].Label == "lo":
			p.Server = address
			return nil
		}
		address = address.Next()
	}
	return plan.Refuse("%d addresses from %s on are taken, one for each interface's server: remove some from lo", maxServers, identity.ServerLinkLocal)
}

// filters are those of a UDP server on the links.
func (p *Provision) filters() []*plan.Filter {
	return []*plan.Filter{plan.ProvisionFilter(*p.Links, p.server(), p.guest(), p.IPv6, p.Blocked), plan.ProvisionStackFilter(*p.Links)}
}

const provisionFile = "provision.json"

// LoadProvision reads the record of Provide; nil when there is none.
func (s Store) LoadProvision() (*Provision, error) {
	o := s.open()
	defer o.close()
	path := s.path(provisionFile)
	b, err := o.read(provisionFile)
	if err == nil && b == nil {
		path = filepath.Join(s.Dir, provisionFile)
		b, err = o.readFirst(provisionFile)
	}
	switch {
	case IsLost(err):
		return nil, plan.Refuse("the record cannot be read: %w", err)
	case err != nil || b == nil:
		return nil, err
	}
	p := new(Provision)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, plan.Refuse("the record %s is damaged (%w)", path, err)
	}
	if p.Version > provisionVersionOfIPv6 {
		return nil, plan.Refuse("the record %s was written by a newer podnic (version %d, this one reads up to %d): use that podnic", path, p.Version, provisionVersionOfIPv6)
	}
	if err := p.check(); err != nil {
		return nil, plan.Refuse("the record %s is damaged (%w)", path, err)
	}
	return p, nil
}

// check is what a record has to pass, since what it names is changed: the settings that Provide changes and no others, to
// what they can hold, and links by names that links can have.
func (p *Provision) check() error {
	switch {
	case p.Version < 1:
		return errors.New("it has no version")
	case p.Namespace.Boot == "" || p.Namespace.Cookie == 0:
		return errors.New("it names no namespace")
	}
	for name, value := range p.Sysctls {
		if name == sourcesSysctl {
			if _, err := plan.ParseSources(value); err != nil {
				return err
			}
			continue
		}
		_, ours := sysctls[name]
		if _, ours6 := sysctls6[name]; !ours && !ours6 {
			return fmt.Errorf("%q is not a setting that podnic changes", name)
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || value != strconv.FormatInt(n, 10) || name == unprivilegedPorts && (n < 0 || n > 1<<16-1) {
			return fmt.Errorf("%s cannot hold %q", dotted(name), value)
		}
	}
	if p.Sources != "" {
		if _, err := plan.ParseSources(p.Sources); err != nil {
			return err
		}
	}
	if err := plan.CheckBlocked(p.Blocked); err != nil {
		return err
	}
	last := identity.ServerLinkLocal.As4()
	last[3] += maxServers - 1
	if p.server().Less(identity.ServerLinkLocal) || netip.AddrFrom4(last).Less(p.server()) {
		return fmt.Errorf("%s is not the address of a server", p.Server)
	}
	if err := p.checkIPv6(); err != nil {
		return err
	}
	if p.Links == nil {
		return nil
	}
	for _, name := range []string{p.Links.Interface, p.Links.NIC, p.Links.Bridge, p.Links.Tap} {
		if !plan.ValidName(name) {
			return fmt.Errorf("%q cannot be the name of a link", name)
		}
	}
	return nil
}

// checkFor refuses a record of another interface than the one that is asked for: its filter is taken away by its name.
func (p *Provision) checkFor(iface string) error {
	if p.Links == nil || iface == "" || p.Links.Interface == iface {
		return nil
	}
	return plan.Refuse("the record %s is of the interface %q, and not of %q", provisionFile, p.Links.Interface, iface)
}

// InspectProvision lists in words how the namespace deviates from what Provide gave. Nothing is changed or locked.
func InspectProvision(req Request) (deviations []string, err error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := s.store.LoadProvision()
	if err != nil {
		return nil, err
	}
	if p != nil && p.Namespace == s.id {
		if err := p.checkFor(req.Options.Interface); err != nil {
			return nil, err
		}
	}
	if p == nil || p.Namespace != s.id {
		return []string{fmt.Sprintf("there is no record %s of this namespace", s.store.path(provisionFile))}, nil
	}
	wanted := p.wanted()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		value, err := s.sysctl(name)
		if err != nil {
			return nil, err
		}
		if value != wanted[name] {
			deviations = append(deviations, fmt.Sprintf("%s is %s and not %s", dotted(name), value, wanted[name]))
		}
	}
	if p.Links == nil {
		return deviations, nil
	}
	there, err := s.everyAddress()
	if err != nil {
		return nil, err
	}
	if !p.NoIPv4 && !slices.ContainsFunc(there, func(a plan.Address) bool { return a.Link == loopback && a.Local == p.serverAddress().Local }) {
		deviations = append(deviations, fmt.Sprintf("lo does not have the address %s", p.serverAddress()))
	}
	for _, wanted := range p.filters() {
		switch have, err := s.nft.Read(wanted.Family, wanted.Table); {
		case errors.Is(err, rtnl.ErrNoFilter):
		case err != nil:
			return nil, err
		case have == nil:
			deviations = append(deviations, fmt.Sprintf("there is no filter %s", wanted.Name()))
		case !have.Same(wanted):
			deviations = append(deviations, fmt.Sprintf("the filter %s is not as it was made", wanted.Name()))
		}
	}
	if p.Guest == nil {
		return deviations, nil
	}
	link, err := s.noticed(p)
	if err != nil {
		return nil, err
	}
	if alias, _ := p.notice().String(); link.Alias != alias {
		deviations = append(deviations, fmt.Sprintf("the alias of %s is %q and not %q", link.Name, link.Alias, alias))
	}
	return deviations, nil
}

// everyAddress lists the addresses of all links. Those of the loopback are so marked, the others have the link's name in the
// place of a role.
func (s *session) everyAddress() ([]plan.Address, error) {
	all, err := s.rtnl.Links()
	if err != nil {
		return nil, err
	}
	names := make(map[int]plan.Role, len(all))
	for _, l := range all {
		names[l.Index] = plan.Role(l.Name)
		if l.Type == unix.ARPHRD_LOOPBACK {
			names[l.Index] = loopback
		}
	}
	return s.rtnl.Addresses(names, 0)
}

// serverOf is the address that the server of an interface has to answer from where the wiring gives it none: the one with
// its label on the loopback, else the first. held says whether a link of the namespace has it.
func (s *session) serverOf(iface string) (address netip.Addr, held bool, err error) {
	there, err := s.everyAddress()
	if err != nil {
		return netip.Addr{}, false, err
	}
	for _, a := range there {
		if a.Link == loopback && a.Label == iface && a.Is4() {
			return a.Local.Addr(), true, nil
		}
	}
	first := identity.ServerLinkLocal
	return first, slices.ContainsFunc(there, func(a plan.Address) bool { return a.Local.Addr() == first }), nil
}

// sysctl reads a setting of the namespace. It is looked up in the reading thread's namespace.
func (s *session) sysctl(name string) (value string, err error) {
	err = s.ns.Do(func() error {
		value, err = readProc(filepath.Join("/proc/sys", name))
		return err
	})
	return value, err
}

// setSysctl writes a setting, unless it has the value: /proc/sys may be read-only then.
func (s *session) setSysctl(name, value string) error {
	if now, err := s.sysctl(name); err != nil || now == value {
		return err
	}
	err := s.ns.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", dotted(name), value, err)
	}
	return nil
}

// dotted is the name of a setting as sysctl(8) has it.
func dotted(name string) string { return strings.ReplaceAll(name, "/", ".") }

// removeProvision deletes the record of Provide, wherever it lies.
func (s Store) removeProvision() error {
	o := s.open()
	defer o.close()
	return errors.Join(o.remove(provisionFile), o.removeFirst(provisionFile))
}
