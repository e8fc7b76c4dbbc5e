package v4

import "github.com/insomniacslk/dhcp/dhcpv4"

// Option codes that the server reads or writes.
const (
	CodePad          = uint8(dhcpv4.OptionPad)
	CodeMask         = uint8(dhcpv4.OptionSubnetMask)
	CodeRouter       = uint8(dhcpv4.OptionRouter)
	CodeDNS          = uint8(dhcpv4.OptionDomainNameServer)
	CodeHostname     = uint8(dhcpv4.OptionHostName)
	CodeDomainName   = uint8(dhcpv4.OptionDomainName)
	CodeMTU          = uint8(dhcpv4.OptionInterfaceMTU)
	CodeBroadcast    = uint8(dhcpv4.OptionBroadcastAddress)
	CodeNTP          = uint8(dhcpv4.OptionNTPServers)
	CodeRequested    = uint8(dhcpv4.OptionRequestedIPAddress)
	CodeLeaseTime    = uint8(dhcpv4.OptionIPAddressLeaseTime)
	CodeOverload     = uint8(dhcpv4.OptionOptionOverload)
	CodeMessageType  = uint8(dhcpv4.OptionDHCPMessageType)
	CodeServer       = uint8(dhcpv4.OptionServerIdentifier)
	CodeParameters   = uint8(dhcpv4.OptionParameterRequestList)
	CodeMessage      = uint8(dhcpv4.OptionMessage)
	CodeMaxSize      = uint8(dhcpv4.OptionMaximumDHCPMessageSize)
	CodeRenewal      = uint8(dhcpv4.OptionRenewTimeValue)
	CodeRebinding    = uint8(dhcpv4.OptionRebindingTimeValue)
	CodeClientID     = uint8(dhcpv4.OptionClientIdentifier)
	CodeVendorClass  = uint8(dhcpv4.OptionClassIdentifier)
	CodeTFTPServer   = uint8(dhcpv4.OptionTFTPServerName)
	CodeBootFile     = uint8(dhcpv4.OptionBootfileName)
	CodeUserClass    = uint8(dhcpv4.OptionUserClassInformation)
	CodeRapidCommit  = uint8(dhcpv4.OptionRapidCommit)
	CodeRelayAgent   = uint8(dhcpv4.OptionRelayAgentInformation)
	CodeArchitecture = uint8(dhcpv4.OptionClientSystemArchitectureType)
	CodeSearch       = uint8(dhcpv4.OptionDNSDomainSearchList)
	CodeRoutes       = uint8(dhcpv4.OptionClasslessStaticRoute)
	CodeIPXE         = uint8(175) // iPXE's own, with options in it (https://ipxe.org/howto/dhcpd)
	CodeRoutesMS     = uint8(249) // what Windows before Vista asks for in place of 121
	CodeEnd          = uint8(dhcpv4.OptionEnd)
)

const (
	OpRequest = 1 // BOOTREQUEST
	OpReply   = 2 // BOOTREPLY

	HardwareEthernet = 1 // htype

	// FlagBroadcast is set by a client that cannot receive unicast frames before it has an address (RFC 2131 §4.1).
	FlagBroadcast = 1 << 15

	// ServerPort and ClientPort are those of UDP (RFC 2131 §4.1).
	ServerPort = 67
	ClientPort = 68

	// InfiniteLease is the lease time that means forever (RFC 2131 §3.3).
	InfiniteLease = 1<<32 - 1
)
