// Package v6 is the codec of DHCPv6 (RFC 8415): messages of a client decoded, and those of a server laid out. It is the only
// package that knows the library for that, insomniacslk/dhcp/dhcpv6.
//
// What the library would do with values that do not fit is kept from it: an option without a value is left out, where it
// would write an empty one or panic; addresses of IPv4 are left out, where it would write them mapped into IPv6; what does
// not fit into the message is left out, where a length would wrap; names are those of package dhcp, clean, with labels of at
// most 63 bytes and without the final dot of which it would make another root. A message of which it cannot read an option it
// refuses as a whole: which option that is, Decode finds out.
package v6
