package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PortRange is a range of ports, both ends included, of one transport protocol, or of TCP and UDP.
type PortRange struct {
	First, Last uint16
	Protocol    string // ProtocolTCP, ProtocolUDP, or empty: both
}

// Transport protocols that have ports.
const (
	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"
)

var portProtocols = []string{ProtocolTCP, ProtocolUDP}

// String is the range as a flag takes it.
func (r PortRange) String() string {
	text := strconv.Itoa(int(r.First))
	if r.Last != r.First {
		text += fmt.Sprintf("-%d", r.Last)
	}
	if r.Protocol != "" {
		text += "/" + r.Protocol
	}
	return text
}

// MarshalText makes the range text in JSON.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *PortRange) UnmarshalText(text []byte) (err error) {
	*r, err = ParsePortRange(string(text))
	return err
}

// of reports whether the range is one of a protocol.
func (r PortRange) of(protocol string) bool { return r.Protocol == "" || r.Protocol == protocol }

func (r PortRange) overlaps(o PortRange) bool {
	return r.First <= o.Last && o.First <= r.Last && (r.of(o.Protocol) || o.of(r.Protocol))
}

// ParsePortRange reads PORT[-PORT][/tcp|/udp].
func ParsePortRange(text string) (r PortRange, err error) {
	ports, protocol, said := strings.Cut(text, "/")
	if said && !slices.Contains(portProtocols, protocol) {
		return r, fmt.Errorf("%q ends in neither /tcp nor /udp", text)
	}
	first, last, several := strings.Cut(ports, "-")
	if !several {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case err != nil || err2 != nil || from == 0:
		return r, fmt.Errorf("%q is not PORT or PORT-PORT with numbers from 1 to 65535, and /tcp or /udp behind it", text)
	case from > to:
		return r, fmt.Errorf("%q starts after it ends", text)
	}
	return PortRange{uint16(from), uint16(to), protocol}, nil
}

// Ports are ranges of ports, in order and apart.
type Ports []PortRange

// ParsePorts reads ranges, with commas between them.
func ParsePorts(text string) (Ports, error) {
	if text == "" {
		return nil, nil
	}
	var all Ports
	for one := range strings.SplitSeq(text, ",") {
		r, err := ParsePortRange(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all.normal(), nil
}

// normal is the same ports, in order, without ranges that meet. What both protocols have is said once.
func (p Ports) normal() Ports {
	var all Ports
	tcp, udp := p.of(ProtocolTCP), p.of(ProtocolUDP)
	for _, r := range tcp {
		if slices.Contains(udp, r) {
			all = append(all, r)
			continue
		}
		r.Protocol = ProtocolTCP
		all = append(all, r)
	}
	for _, r := range udp {
		if !slices.Contains(tcp, r) {
			r.Protocol = ProtocolUDP
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Protocol, b.Protocol))
	})
	return all
}

// of are the ranges of a protocol, which they do not name.
func (p Ports) of(protocol string) (of Ports) {
	for _, r := range p {
		if r.of(protocol) {
			of = append(of, PortRange{First: r.First, Last: r.Last})
		}
	}
	slices.SortFunc(of, func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	var apart Ports
	for _, r := range of {
		if n := len(apart); n > 0 && uint32(r.First) <= uint32(apart[n-1].Last)+1 {
			apart[n-1].Last = max(apart[n-1].Last, r.Last)
			continue
		}
		apart = append(apart, r)
	}
	return apart
}

// Has reports whether a port of a protocol is among them.
func (p Ports) Has(port uint16, protocol string) bool {
	return slices.ContainsFunc(p, func(r PortRange) bool { return r.of(protocol) && r.First <= port && port <= r.Last })
}

// String is the ports as a flag takes them.
func (p Ports) String() string {
	texts := make([]string, len(p))
	for i, r := range p {
		texts[i] = r.String()
	}
	return strings.Join(texts, ",")
}

// maxPorts is how many ranges podnic takes: the filter goes through them for each frame.
const maxPorts = 64

// dhcpPorts are those that stay between guest and server whoever listens.
var dhcpPorts = Ports{{67, 68, ProtocolUDP}, {546, 547, ProtocolUDP}}

// IsDHCP reports whether a port is one of those.
func IsDHCP(port uint16, protocol string) bool { return dhcpPorts.Has(port, protocol) }

// GuestSources are the source ports that a Linux guest takes for its connections unless it is told otherwise
// (Documentation/networking/ip-sysctl.rst, ip_local_port_range). Windows takes 49152-65535, which is beyond the one that is
// proposed to pods.
var GuestSources = PortRange{First: 32768, Last: 60999}

// PodSources is what is proposed for net.ipv4.ip_local_port_range of a pod.
const PodSources = "28232 32767"

// ParseSources reads net.ipv4.ip_local_port_range.
func ParseSources(sysctl string) (r PortRange, err error) {
	if _, err := fmt.Sscanf(sysctl, "%d %d", &r.First, &r.Last); err != nil || r.First == 0 || r.First > r.Last {
		return r, fmt.Errorf("net.ipv4.ip_local_port_range holds %q, and not two ports", sysctl)
	}
	return r, nil
}

// checkPorts refuses ports that cannot be shared between pod and guest.
func (o Options) checkPorts() error {
	if o.Binding != BindingShared {
		if len(o.PodPorts)+len(o.GuestPorts) > 0 {
			return Refuse("only with the binding shared a pod keeps ports: pass --binding shared with --pod-ports and --guest-ports, or leave these out")
		}
		return nil
	}
	for _, list := range o.portLists() {
		if len(list.ports) > maxPorts {
			return Refuse("--%s has %d ranges of ports, but the filter can hold only %d: join some", list.flag, len(list.ports), maxPorts)
		}
	}
	for _, r := range o.PodPorts {
		for _, d := range dhcpPorts {
			if r.overlaps(d) {
				return Refuse("--pod-ports has %s, and the ports %s are those of DHCP, which is between the guest and podnic: leave them out", r, d)
			}
		}
		for _, g := range o.GuestPorts {
			if r.overlaps(g) {
				return Refuse("%s is among the ports that the pod keeps (%s), so that 127.0.0.1 is the pod's there: leave it out of --guest-ports or of --pod-ports", g, r)
			}
		}
	}
	return nil
}

// CheckSources refuses a range of source ports that the pod's connections cannot have beside a guest's.
func (o Options) CheckSources() error {
	if o.Binding != BindingShared {
		return nil
	}
	const remedy = `put into the pod's spec securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: "` + PodSources +
		`"}]} (a safe sysctl; docker and podman: --sysctl net.ipv4.ip_local_port_range="` + PodSources + `")`
	if o.Sources.overlaps(GuestSources) {
		return Refuse("the pod's connections come from the ports %s, and so do a guest's (%s): %s", o.Sources, GuestSources, remedy)
	}
	for _, list := range o.portLists() {
		for _, r := range list.ports {
			if r.overlaps(o.Sources) {
				return Refuse("--%s has %s, and the pod's connections come from the ports %s (net.ipv4.ip_local_port_range): leave it out, or have the pod connect from others", list.flag, r, o.Sources)
			}
		}
	}
	return nil
}

type portList struct {
	flag  string
	ports Ports
}

func (o Options) portLists() []portList {
	return []portList{{"pod-ports", o.PodPorts}, {"guest-ports", o.GuestPorts}}
}
