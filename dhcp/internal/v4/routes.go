package v4

import (
	"bytes"
	"net/netip"

	"github.com/podnic/podnic/network/identity"
)

// RouteForms are the routes of an offer as options 121 and 249 have them, with fewer of them where there is no room.
type RouteForms struct {
	Whole []byte
	// Lean leaves out what follows from the others: to a destination inside another one, by the same next hop.
	Lean []byte
	// Bare has the default, and what it takes to reach its gateway and the server.
	Bare []byte
}

// are reports whether an option has these routes, and not what the operator put there.
func (f RouteForms) are(o Option) bool { return IsRoutes(o.Code) && bytes.Equal(o.Data, f.Whole) }

func IsRoutes(code uint8) bool { return code == CodeRoutes || code == CodeRoutesMS }

// EncodeRoutes writes option 121: for each route the prefix length, as many bytes of the destination as it covers, and
// the router, which is 0.0.0.0 for a destination on the link (RFC 3442).
func EncodeRoutes(routes []identity.Route) []byte {
	var data []byte
	for _, r := range routes {
		bits := r.Destination.Bits()
		data = append(data, byte(bits))
		data = append(data, r.Destination.Masked().Addr().AsSlice()[:(bits+7)/8]...)
		gateway := netip.IPv4Unspecified()
		if r.Gateway.IsValid() {
			gateway = r.Gateway
		}
		data = append(data, gateway.AsSlice()...)
	}
	return data
}

// wholeRoutes is how many of so many bytes end at the end of a route. What is not a list of routes (the operator's) is cut
// anywhere.
func wholeRoutes(data []byte, most int) int {
	end := 0
	for end < len(data) {
		next := end + 1 + (int(data[end])+7)/8 + 4
		if data[end] > 32 || next > len(data) {
			return most
		}
		if next > most {
			break
		}
		end = next
	}
	return end
}
