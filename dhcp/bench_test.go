package dhcp

import (
	"math"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
)

// BenchmarkExchange is DISCOVER to ACK without the socket.
func BenchmarkExchange(b *testing.B) {
	h := testHandler(b, ptpPod(), Settings{})
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...)), "0.0.0.0", everybody)
	request := fromGuest(ask(dhcpv4.MessageTypeRequest, withParameters(dhclient...), withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1")), "0.0.0.0", everybody)
	for i := range h.paces {
		h.paces[i] = newLimiter(math.Inf(1), 0)
	}
	b.ReportAllocs()
	for b.Loop() {
		if h.ethernet(discover, link.ChecksumFinished) == nil || h.ethernet(request, link.ChecksumFinished) == nil {
			b.Fatal("no reply")
		}
		h.takeEvents()
	}
}
