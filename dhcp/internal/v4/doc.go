// Package v4 is the codec of DHCPv4 messages: requests are decoded, and the options of replies laid out (RFC 2131, 2132, 3396,
// 3397, 3442). docs/adr/0007 says why it is not a library's.
//
// It knows the form of messages and nothing of what is offered: that is package dhcp's. What it decodes may come from anybody
// and is refused with a drop.Reason.
package v4
