package dhcp

import (
	"fmt"
	"net/netip"
	"time"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// Values of Settings.SubnetMask.
const (
	// MaskGuest hands out the prefix that the guest needs (identity.Address.Prefix).
	MaskGuest = "guest"
	// MaskPod hands out the prefix of the pod's interface (identity.Address.Pod), for clients that ignore option 121 and so
	// cannot use a /32. Neighbours that do not answer ARP are then answered for with the gateway's MAC.
	MaskPod = "pod"
)

// Settings are what the operator adds to the pod's identity or puts in the place of a part of it. The zero value adds
// nothing.
type Settings struct {
	// LeaseTime in whole seconds; 0 is an infinite lease.
	LeaseTime time.Duration
	// DNS and Search replace those of the pod's resolver configuration.
	DNS    []netip.Addr
	Search []string
	// DomainName is option 15; when empty, the first search domain is sent.
	DomainName string
	NTP        []netip.Addr
	// Hostname replaces the pod's.
	Hostname string
	// MTU in bytes of IP payload, at most the pod's; 0 is the pod's.
	MTU int
	// SubnetMask is MaskGuest or MaskPod; empty is MaskGuest.
	SubnetMask string
	// GatewayMAC is what MaskPod answers ARP with. When it is zero, the MAC is looked up among Identity.V4.Neighbours.
	GatewayMAC identity.MAC
	// TFTPServer is a name or an address.
	TFTPServer string
	// BootFiles are for the clients that each says; the most specific counts.
	BootFiles []BootFile
	// Extra options replace computed ones of the same code.
	Extra []Option
	// UDP serves from a UDP socket on the bridge in place of a packet socket on the tap.
	UDP bool
	// Server is the address that a UDP socket answers from; the zero Addr is ServerLinkLocal.
	Server netip.Addr
}

// Limits of an interface MTU: RFC 791 and the length field of IPv4.
const (
	minMTU = 68
	maxMTU = 65535
)

// maxBootFile and maxServerName are the sizes of the header fields "file" and "sname" without their final NUL.
const (
	maxBootFile   = 127
	maxServerName = 63
)

// Check finds what is wrong with the options themselves, whatever the identity is. These are the operator's
// mistakes, so they are errors; what comes from the pod costs only a warning.
func (o Settings) Check() error {
	switch {
	case o.LeaseTime < 0 || o.LeaseTime%time.Second != 0:
		return fmt.Errorf("the lease time (--lease-time) %s is not a whole number of seconds", o.LeaseTime)
	case o.LeaseTime/time.Second >= v4.InfiniteLease:
		return fmt.Errorf("the lease time (--lease-time) %s is too long for DHCP: make it infinite", o.LeaseTime)
	case o.MTU != 0 && (o.MTU < minMTU || o.MTU > maxMTU):
		return fmt.Errorf("--mtu takes %d to %d, not %d", minMTU, maxMTU, o.MTU)
	case o.SubnetMask != "" && o.SubnetMask != MaskGuest && o.SubnetMask != MaskPod:
		return fmt.Errorf("--subnet-mask takes %s or %s, not %q", MaskGuest, MaskPod, o.SubnetMask)
	case len(o.TFTPServer) > maxServerName:
		return fmt.Errorf("the TFTP server's name (--tftp-server) %q is longer than %d bytes", o.TFTPServer, maxServerName)
	}
	if err := checkBootFiles(o.BootFiles); err != nil {
		return err
	}
	for _, extra := range o.Extra {
		if why := reservedFor(extra.Code); why != "" {
			return fmt.Errorf("option %d cannot be set: %s", extra.Code, why)
		}
		if len(extra.Data) == 0 || len(extra.Data) > maxExtra {
			return fmt.Errorf("option %d has %d bytes, not 1 to %d", extra.Code, len(extra.Data), maxExtra)
		}
	}
	return nil
}
