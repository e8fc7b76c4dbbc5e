package dhcp

import "github.com/insomniacslk/dhcp/dhcpv4"

// Option codes that the server reads or writes.
const (
	codePad          = uint8(dhcpv4.OptionPad)
	codeMask         = uint8(dhcpv4.OptionSubnetMask)
	codeRouter       = uint8(dhcpv4.OptionRouter)
	codeDNS          = uint8(dhcpv4.OptionDomainNameServer)
	codeHostname     = uint8(dhcpv4.OptionHostName)
	codeDomainName   = uint8(dhcpv4.OptionDomainName)
	codeMTU          = uint8(dhcpv4.OptionInterfaceMTU)
	codeBroadcast    = uint8(dhcpv4.OptionBroadcastAddress)
	codeNTP          = uint8(dhcpv4.OptionNTPServers)
	codeRequested    = uint8(dhcpv4.OptionRequestedIPAddress)
	codeLeaseTime    = uint8(dhcpv4.OptionIPAddressLeaseTime)
	codeOverload     = uint8(dhcpv4.OptionOptionOverload)
	codeMessageType  = uint8(dhcpv4.OptionDHCPMessageType)
	codeServer       = uint8(dhcpv4.OptionServerIdentifier)
	codeParameters   = uint8(dhcpv4.OptionParameterRequestList)
	codeMessage      = uint8(dhcpv4.OptionMessage)
	codeMaxSize      = uint8(dhcpv4.OptionMaximumDHCPMessageSize)
	codeRenewal      = uint8(dhcpv4.OptionRenewTimeValue)
	codeRebinding    = uint8(dhcpv4.OptionRebindingTimeValue)
	codeClientID     = uint8(dhcpv4.OptionClientIdentifier)
	codeVendorClass  = uint8(dhcpv4.OptionClassIdentifier)
	codeTFTPServer   = uint8(dhcpv4.OptionTFTPServerName)
	codeBootFile     = uint8(dhcpv4.OptionBootfileName)
	codeUserClass    = uint8(dhcpv4.OptionUserClassInformation)
	codeRapidCommit  = uint8(dhcpv4.OptionRapidCommit)
	codeRelayAgent   = uint8(dhcpv4.OptionRelayAgentInformation)
	codeArchitecture = uint8(dhcpv4.OptionClientSystemArchitectureType)
	codeSearch       = uint8(dhcpv4.OptionDNSDomainSearchList)
	codeRoutes       = uint8(dhcpv4.OptionClasslessStaticRoute)
	codeIPXE         = uint8(175) // iPXE's own, with options in it (https://ipxe.org/howto/dhcpd)
	codeRoutesMS     = uint8(249) // what Windows before Vista asks for in place of 121
	codeEnd          = uint8(dhcpv4.OptionEnd)
)

const (
	opRequest = 1 // BOOTREQUEST
	opReply   = 2 // BOOTREPLY

	hardwareEthernet = 1 // htype

	// flagBroadcast is set by a client that cannot receive unicast frames before it has an address (RFC 2131 §4.1).
	flagBroadcast = 1 << 15

	serverPort = 67
	clientPort = 68

	// infiniteLease is the lease time that means forever (RFC 2131 §3.3).
	infiniteLease = 1<<32 - 1
)
