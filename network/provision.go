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
	// Links are the names of the wiring that somebody else makes. Nil where it is podnic's own, which has an address and a
	// filter itself, and where the interface has no IPv4 address, so that nothing is served.
	Links *Names `json:"links,omitempty"`
	// Blocked is what routes of the pod block, where Links are somebody else's to wire.
	Blocked []Blocked `json:"blocked,omitempty"`
	// Address says that the loopback did not have the server's address before.
	Address bool `json:"address,omitempty"`
}

// provisionVersion is raised when an older podnic could not take back what a newer one gave.
const provisionVersion = 1

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

// serverAddress is the address of a UDP server on a bridge that has none: on the loopback, where no other host sees it.
var serverAddress = Address{Link: loopback, Local: netip.PrefixFrom(identity.ServerLinkLocal, 32), Label: "lo", Scope: unix.RT_SCOPE_HOST}

const loopback Role = "loopback"

// filters are those of a UDP server on the links.
func (p *Provision) filters() []*Filter {
	return []*Filter{provisionFilter(*p.Links, p.Blocked), provisionStackFilter(*p.Links)}
}

const provisionFile = "provision.json"

// LoadProvision reads the record of Provide; nil when there is none.
func (s Store) LoadProvision() (*Provision, error) {
	path := s.path(provisionFile)
	b, err := s.read(provisionFile)
	if err == nil && b == nil {
		path = filepath.Join(s.Dir, provisionFile)
		b, err = s.readFirst(provisionFile)
	}
	switch {
	case IsLost(err):
		return nil, Refuse("the record cannot be read: %w", err)
	case err != nil || b == nil:
		return nil, err
	}
	p := new(Provision)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, Refuse("the record %s is damaged (%w)", path, err)
	}
	if p.Version > provisionVersion {
		return nil, Refuse("the record %s was written by a newer podnic (version %d, this one reads up to %d): use that podnic", path, p.Version, provisionVersion)
	}
	if err := p.check(); err != nil {
		return nil, Refuse("the record %s is damaged (%w)", path, err)
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
		return errors.New("it does not say which namespace it is of")
	}
	for name, value := range p.Sysctls {
		if _, ours := sysctls[name]; !ours {
			return fmt.Errorf("%q is not a setting that podnic changes", name)
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || value != strconv.FormatInt(n, 10) || name == unprivilegedPorts && (n < 0 || n > 1<<16-1) {
			return fmt.Errorf("%s cannot hold %q", dotted(name), value)
		}
	}
	if p.Links == nil {
		return nil
	}
	for _, name := range []string{p.Links.Interface, p.Links.NIC, p.Links.Bridge, p.Links.Tap} {
		if !validName(name) {
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
	return Refuse("the record %s is of the interface %q, and not of %q", provisionFile, p.Links.Interface, iface)
}

// InspectProvision lists what is missing of what Provide gave, in words. Nothing is changed or locked.
func InspectProvision(req Request) (missing []string, err error) {
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
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		value, err := s.sysctl(name)
		if err != nil {
			return nil, err
		}
		if value != sysctls[name] {
			missing = append(missing, fmt.Sprintf("%s is %s and not %s", dotted(name), value, sysctls[name]))
		}
	}
	if p.Links == nil {
		return missing, nil
	}
	there, err := s.hasServerAddress()
	if err != nil {
		return nil, err
	}
	if !there {
		missing = append(missing, fmt.Sprintf("lo does not have the address %s", serverAddress))
	}
	for _, wanted := range p.filters() {
		switch have, err := s.nft.read(wanted.family, wanted.Table); {
		case errors.Is(err, errNoFilter):
		case err != nil:
			return nil, err
		case have == nil:
			missing = append(missing, fmt.Sprintf("there is no filter %s", wanted.name()))
		case !have.same(wanted):
			missing = append(missing, fmt.Sprintf("the filter %s is not as it was made", wanted.name()))
		}
	}
	return missing, nil
}

func (s *session) hasServerAddress() (bool, error) {
	index, err := s.rtnl.indexOf("lo")
	if err != nil {
		return false, err
	}
	addresses, err := s.rtnl.addresses(map[int]Role{index: loopback}, 0)
	return slices.ContainsFunc(addresses, func(a Address) bool { return a.Local == serverAddress.Local }), err
}

// sysctl reads a setting of the namespace. It is looked up in the reading thread's namespace.
func (s *session) sysctl(name string) (value string, err error) {
	err = s.ns.Do(func() error {
		b, err := os.ReadFile(filepath.Join("/proc/sys", name))
		value = strings.TrimSpace(string(b))
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
	return errors.Join(s.remove(provisionFile), s.removeFirst(provisionFile))
}
