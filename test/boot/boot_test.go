package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// firmware is what boots a guest from its network.
type firmware struct {
	card string // QEMU's device; its option ROM is iPXE unless it has none
	uefi bool
}

var (
	ipxe      = firmware{card: "virtio-net-pci"}
	ipxeE1000 = firmware{card: "e1000"}
	ovmf      = firmware{card: "virtio-net-pci,romfile=", uefi: true} // with UEFI's own driver and client
)

// firmwareFile is a file of the packages that scripts/setup unpacks.
func firmwareFile(t *testing.T, path string) string {
	t.Helper()
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "firmware", path)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	return content
}

// flash are the firmware's images, the second of which it writes to.
func (f firmware) flash(t *testing.T) []string {
	t.Helper()
	if !f.uefi {
		return nil
	}
	variables := filepath.Join(t.TempDir(), "variables")
	if err := os.WriteFile(variables, read(t, firmwareFile(t, "usr/share/OVMF/OVMF_VARS_4M.fd")), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"readonly=on,file=" + firmwareFile(t, "usr/share/OVMF/OVMF_CODE_4M.fd"), "file=" + variables}
}

// script is iPXE's: it fetches a file by HTTP, for which it needs TCP both ways through the gateway.
const script = "#!ipxe\nimgfetch http://203.0.113.7/done ||\nsleep 100\n"

// parallel bounds how many emulators run at once.
var parallel = make(chan struct{}, 3)

// TestFirmwareBoots has each firmware fetch its file beyond the pod's gateway, in pods that differ in the mask and in how
// the gateway is reached. docs/dhcp.md has the table.
func TestFirmwareBoots(t *testing.T) {
	podtest.NeedRoot(t)
	plain := []string{"--boot-file", "boot.ipxe"}
	byClient := []string{"--boot-file", "arch:7,snponly.efi", "--boot-file", "user-class:iPXE,http://203.0.113.7/boot.ipxe", "--boot-file", "wrong"}
	for _, tt := range []struct {
		name     string
		firmware firmware
		network  pod.Network
		socket   string
		flags    []string
		fetches  []string
	}{
		{"iPXE on bridge", ipxe, pod.Bridge, "packet", plain, []string{"tftp boot.ipxe", "http /done"}},
		{"iPXE on ptp", ipxe, pod.PTP, "packet", plain, []string{"tftp boot.ipxe", "http /done"}},
		{"iPXE on ptp by a UDP socket", ipxe, pod.PTP, "udp", plain, []string{"tftp boot.ipxe", "http /done"}},
		{"iPXE on ptp with the pod's mask", ipxe, pod.PTP, "packet", append(plain, "--subnet-mask", "pod"), []string{"tftp boot.ipxe", "http /done"}},
		{"iPXE on a host address", ipxe, pod.HostAddress, "packet", plain, []string{"tftp boot.ipxe", "http /done"}},
		{"iPXE of an e1000 by its user class", ipxeE1000, pod.PTP, "packet", byClient, []string{"http /boot.ipxe", "http /done"}},
		// The chain: UEFI loads iPXE, which is told another file than itself.
		{"UEFI and then iPXE on ptp", ovmf, pod.PTP, "packet", byClient, []string{"tftp snponly.efi", "http /boot.ipxe", "http /done"}},
		{"UEFI and then iPXE on a host address", ovmf, pod.HostAddress, "packet", byClient, []string{"tftp snponly.efi", "http /boot.ipxe", "http /done"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			parallel <- struct{}{}
			defer func() { <-parallel }()
			content := map[string][]byte{"tftp boot.ipxe": []byte(script), "http /boot.ipxe": []byte(script), "http /done": []byte("#!ipxe\n")}
			if tt.firmware.uefi {
				content["tftp snponly.efi"] = read(t, firmwareFile(t, "usr/lib/ipxe/snponly.efi"))
			}
			s := newSite(t, tt.network, tt.socket, content, append([]string{"--tftp-server", fileServer.String()}, tt.flags...)...)
			warned := strings.Contains(s.Must("status", "-o", "json"), "the gateway 169.254.1.1 is outside of the pod's subnet")
			if outside := tt.network.Plugin == ""; warned != outside {
				t.Errorf("the status warns of a gateway that other firmware may not reach: %v, want %v", warned, outside)
			}
			s.boot(tt.firmware)
			for _, file := range tt.fetches {
				s.fetched(file)
			}
		})
	}
}
