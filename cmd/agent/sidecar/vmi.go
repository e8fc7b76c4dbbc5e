package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network/statedir"
)

// vmiConfig is what a VMI configures for the guest of one interface. It is kept in the interface's directory, since the
// launcher does not ask a sidecar that is started again.
type vmiConfig struct {
	Subdomain string                `json:"subdomain,omitempty"`
	DHCP      *kubevirt.DHCPOptions `json:"dhcpOptions,omitempty"`
}

const vmiConfigFile = "vmi.json"

func loadVMIConfig(stateDir, iface string) (vmiConfig, error) {
	var w vmiConfig
	var b []byte
	d, err := statedir.OpenOwn(stateDir, iface)
	if err == nil {
		defer d.Close()
		b, err = d.Read(vmiConfigFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		return w, fmt.Errorf("read what the VMI wants the guest to be told: %w", err)
	}
	return w, nil
}

func (w vmiConfig) save(stateDir, iface string) error {
	b, err := json.Marshal(w)
	var d *statedir.Dir
	if err == nil {
		d, err = statedir.Make(stateDir, iface)
	}
	if err == nil {
		defer d.Close()
		err = d.Write(vmiConfigFile, append(b, '\n'), 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("write what the VMI wants the guest to be told: %w", err)
	}
	return nil
}

// apply adds what the VMI configures to a service. The VMI speaks of one machine and the flags of all of them, so the VMI's come
// first. Its options are podnic's own of these names.
func (w vmiConfig) apply(s offering.Service) (offering.Service, error) {
	s.Subdomain = w.Subdomain
	if w.DHCP == nil {
		return s, nil
	}
	if w.DHCP.BootFile != "" {
		s.Options.BootFiles = []dhcp.BootFile{{File: w.DHCP.BootFile}} // for whatever client the machine has
	}
	if w.DHCP.TFTPServer != "" {
		s.Options.TFTPServer = w.DHCP.TFTPServer
	}
	if len(w.DHCP.NTPServers) > 0 {
		s.Options.NTP = nil
	}
	for _, text := range w.DHCP.NTPServers {
		server, err := netip.ParseAddr(text)
		if err != nil || !server.Is4() {
			return s, fmt.Errorf("dhcpOptions.ntpServers takes IPv4 addresses, not %q", text)
		}
		s.Options.NTP = append(s.Options.NTP, server)
	}
	extra := slices.Clone(s.Options.Extra)
	for _, o := range w.DHCP.PrivateOptions {
		if o.Code < kubevirt.FirstPrivateOption || o.Code > kubevirt.LastPrivateOption {
			return s, fmt.Errorf("dhcpOptions.privateOptions takes options from %d to %d, not %d", kubevirt.FirstPrivateOption, kubevirt.LastPrivateOption, o.Code)
		}
		code := uint8(o.Code)
		extra = slices.DeleteFunc(extra, func(e dhcp.Option) bool { return e.Code == code })
		extra = append(extra, dhcp.Option{Code: code, Data: []byte(o.Value)})
	}
	s.Options.Extra = extra
	return s, nil
}
