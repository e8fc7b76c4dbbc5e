package probe

import (
	"fmt"
	"strings"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// Capability is one that an operation needs.
type Capability struct {
	bit  int
	name string
}

// Those that podnic asks for.
var (
	NetAdmin = Capability{unix.CAP_NET_ADMIN, "NET_ADMIN"}
	NetRaw   = Capability{unix.CAP_NET_RAW, "NET_RAW"}
	SysAdmin = Capability{unix.CAP_SYS_ADMIN, "SYS_ADMIN"}
)

// hasCapability reports whether this process has one.
func hasCapability(c Capability) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("read this process's capabilities: %w", err)
	}
	return data[0].Effective&(1<<c.bit) != 0, nil
}

// CheckCapabilities names the capability that is missing, where it is in time to say so.
func CheckCapabilities(needed ...Capability) error {
	var missing []string
	for _, c := range needed {
		has, err := hasCapability(c)
		if err != nil {
			return err
		}
		if !has {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, ", ")
	return plan.Refuse("this process lacks CAP_%s: add it to the container (securityContext.capabilities.add: [%s], as uid 0)",
		strings.Join(missing, " and CAP_"), list)
}
