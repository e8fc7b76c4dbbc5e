package dhcp

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// Capabilities are what a server needs for as long as it runs, to open its socket and to open it again: CAP_NET_RAW for a
// packet socket, and for a UDP socket none, or CAP_NET_BIND_SERVICE where the namespace of the calling thread keeps the
// server's port for those who have that.
func Capabilities(socket string) []int {
	if socket == SocketPacket {
		return []int{unix.CAP_NET_RAW}
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil {
		if first, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && first <= v4.ServerPort {
			return nil
		}
	}
	return []int{unix.CAP_NET_BIND_SERVICE}
}
