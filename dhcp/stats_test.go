package dhcp

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
)

// TestExchangesAreAllThatIsCounted sends every kind of message, and none of it goes under in the counters by outcome.
func TestExchangesAreAllThatIsCounted(t *testing.T) {
	h := testHandler(t, bridgePod(), Settings{})
	noType := func(m *dhcpv4.DHCPv4) { m.Options.Del(dhcpv4.OptionDHCPMessageType) }
	full := withOption(82, make([]byte, 550)...)
	for _, request := range append(seeds(), ask(dhcpv4.MessageTypeNone, noType),
		ask(dhcpv4.MessageTypeDiscover, full), ask(dhcpv4.MessageTypeInform, full),
		ask(dhcpv4.MessageTypeRequest, withAddr(50, "10.9.9.9"), withAddr(54, "10.9.9.1"))) {
		h.ethernet(fromGuest(request, "0.0.0.0", everybody), link.ChecksumFinished)
	}
	left := h.stats.clone().Exchanges
	byMessage := make(map[Kind]uint64)
	for _, e := range Exchanges() {
		if left[e] == 0 {
			t.Errorf("%s with the outcome %s was never counted", e.Message, e.Outcome)
		}
		byMessage[e.Message] += left[e]
		delete(left, e)
	}
	if len(left) > 0 {
		t.Errorf("not among Exchanges: %v", left)
	}
	if diff := cmp.Diff(h.stats.Received, byMessage); diff != "" {
		t.Errorf("by message, received and counted by outcome differ:\n%s", diff)
	}
}
