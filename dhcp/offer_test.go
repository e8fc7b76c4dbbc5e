package dhcp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

func TestOfferFollowsTheShapeOfThePod(t *testing.T) {
	macless := func(id identity.Identity) identity.Identity {
		id.Resolver, id.Hostname, id.MTU = identity.Resolver{}, "", 0
		return id
	}
	for _, tt := range []struct {
		name     string
		id       identity.Identity
		options  Settings
		want     string
		warnings []string
	}{{
		name: "bridge", id: macless(bridgePod()),
		want: `{"address":"10.244.1.5/24","routes":[{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1",
			"serverIdentifier":"10.244.1.1","socket":"packet"}`,
	}, {
		name: "ptp", id: macless(ptpPod()),
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"10.244.1.1/32"},{"destination":"10.244.1.0/24","gateway":"10.244.1.1"},
			{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1","serverIdentifier":"10.244.1.1",
			"bootAddress":"10.244.1.5/24","socket":"packet"}`,
	}, {
		name: "ptp with a boot file: firmware gets a mask with the gateway in it, and the gateway's MAC answers for the rest",
		id:   macless(ptpPod()), options: Settings{BootFiles: []BootFile{{File: "pxe.0"}}, GatewayMAC: otherMAC},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"10.244.1.1/32"},{"destination":"10.244.1.0/24","gateway":"10.244.1.1"},
			{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1","serverIdentifier":"10.244.1.1","bootFile":"pxe.0",
			"bootAddress":"10.244.1.5/24","arp":[{"destination":"10.244.1.0/24","mac":"02:00:00:00:00:99","except":["10.244.1.1/32"]}],"socket":"packet"}`,
	}, {
		name: "ptp with a boot file, without the gateway's MAC", id: macless(ptpPod()), options: Settings{BootFiles: []BootFile{{File: "pxe.0"}}},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"10.244.1.1/32"},{"destination":"10.244.1.0/24","gateway":"10.244.1.1"},
			{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1","serverIdentifier":"10.244.1.1","bootFile":"pxe.0",
			"bootAddress":"10.244.1.5/24","socket":"packet"}`,
		warnings: []string{"boot file: the gateway's MAC is not known, so firmware reaches nothing of 10.244.1.0/24 but the gateway"},
	}, {
		name: "ptp with a boot file through a UDP socket", id: macless(ptpPod()), options: Settings{UDP: true, BootFiles: []BootFile{{File: "pxe.0"}}},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"169.254.75.10/32"},{"destination":"10.244.1.1/32"},
			{"destination":"10.244.1.0/24","gateway":"10.244.1.1"},{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1",
			"serverIdentifier":"169.254.75.10","bootFile":"pxe.0","bootAddress":"10.244.1.5/24","socket":"udp"}`,
		warnings: []string{"boot file: through a UDP socket firmware reaches nothing of 10.244.1.0/24 but its gateway"},
	}, {
		name: "calico with boot files: iPXE gets a mask under which it asks for its gateway",
		id:   macless(calicoPod()), options: Settings{BootFiles: []BootFile{{File: "pxe.0"}, {File: "a.efi", Architectures: []uint16{7}}, {File: "b", UserClass: "iPXE"}}},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"169.254.1.1/32"},{"destination":"0.0.0.0/0","gateway":"169.254.1.1"}],
			"gateway":"169.254.1.1","serverIdentifier":"169.254.1.1","bootFile":"pxe.0",
			"bootFiles":[{"userClass":"iPXE","file":"b"},{"architectures":[7],"file":"a.efi"}],"bootAddress":"10.244.1.5/30","socket":"packet"}`,
		warnings: []string{"boot file: the gateway 169.254.1.1 is outside of the pod's subnet: iPXE and UEFI reach it all the same, other firmware may not"},
	}, {
		name: "aws: the permanent neighbour is answered for", id: macless(awsPod()),
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"169.254.1.1/32"},{"destination":"0.0.0.0/0","gateway":"169.254.1.1"}],
			"gateway":"169.254.1.1","serverIdentifier":"169.254.1.1","bootAddress":"10.244.1.5/30",
			"arp":[{"destination":"169.254.1.1/32","mac":"02:00:00:00:00:99"},{"destination":"10.244.1.4/30","mac":"02:00:00:00:00:99"}],"socket":"packet"}`,
	}, {
		name: "no default route: the server has an address of its own", id: macless(isolatedPod()),
		want: `{"address":"10.244.1.5/24","routes":[{"destination":"169.254.75.10/32"}],"serverIdentifier":"169.254.75.10",
			"arp":[{"destination":"169.254.75.10/32"}],"socket":"packet"}`,
	}, {
		name: "udp: the server has an address of its own, the kernel answers ARP", id: macless(awsPod()), options: Settings{UDP: true},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"169.254.75.10/32"},{"destination":"169.254.1.1/32"},
			{"destination":"0.0.0.0/0","gateway":"169.254.1.1"}],"gateway":"169.254.1.1","serverIdentifier":"169.254.75.10",
			"bootAddress":"10.244.1.5/30","socket":"udp"}`,
		warnings: []string{"ARP for the neighbour 169.254.1.1 cannot be answered through a UDP socket"},
	}, {
		name: "the pod's mask on ptp: the subnet is on the link, and the gateway's MAC answers for it",
		id:   macless(ptpPod()), options: Settings{SubnetMask: MaskPod, GatewayMAC: otherMAC},
		want: `{"address":"10.244.1.5/24","routes":[{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1",
			"serverIdentifier":"10.244.1.1","arp":[{"destination":"10.244.1.0/24","mac":"02:00:00:00:00:99","except":["10.244.1.1/32"]}],"socket":"packet"}`,
	}, {
		name: "the pod's mask without the gateway's MAC", id: macless(ptpPod()), options: Settings{SubnetMask: MaskPod},
		want: `{"address":"10.244.1.5/24","routes":[{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1",
			"serverIdentifier":"10.244.1.1","socket":"packet"}`,
		warnings: []string{`subnet mask "pod": the gateway's MAC is not known, so ARP for 10.244.1.0/24 is not answered`},
	}, {
		name: "the pod's mask on calico is a /32", id: macless(calicoPod()), options: Settings{SubnetMask: MaskPod},
		want: `{"address":"10.244.1.5/32","routes":[{"destination":"169.254.1.1/32"},{"destination":"0.0.0.0/0","gateway":"169.254.1.1"}],
			"gateway":"169.254.1.1","serverIdentifier":"169.254.1.1","bootAddress":"10.244.1.5/30","socket":"packet"}`,
		warnings: []string{`subnet mask "pod": the pod's own address is 10.244.1.5/32, so a client that ignores option 121 cannot use it either`},
	}, {
		name: "everything", id: bridgePod(),
		options: Settings{
			LeaseTime: 30 * time.Second, DNS: addrs("10.0.0.53"), Search: []string{"Example.ORG."}, DomainName: "example.net", NTP: addrs("10.0.0.123"),
			Hostname: "other", MTU: 1400, TFTPServer: "10.0.0.69", BootFiles: []BootFile{{File: "pxe.0"}}, Extra: []Option{{Code: 224, Data: []byte{1, 2}}},
		},
		want: `{"address":"10.244.1.5/24","routes":[{"destination":"0.0.0.0/0","gateway":"10.244.1.1"}],"gateway":"10.244.1.1","mtu":1400,
			"serverIdentifier":"10.244.1.1","dns":["10.0.0.53"],"search":["example.org"],"hostname":"other","domainName":"example.net",
			"ntp":["10.0.0.123"],"leaseSeconds":30,"tftpServer":"10.0.0.69","bootFile":"pxe.0","options":["224=hex:0102"],"socket":"packet"}`,
	}} {
		t.Run(tt.name, func(t *testing.T) {
			offer, warnings, err := NewOffer(tt.id, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			isOffer(t, offer, tt.want, warnings, tt.warnings)
		})
	}
}

// isOffer compares an offer of either family with JSON, and what was warned of.
func isOffer(t *testing.T, offer any, want string, warnings, wantWarnings []string) {
	t.Helper()
	got, err := json.Marshal(offer)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.NewReplacer("\n", "", "\t", "").Replace(want); string(got) != want {
		t.Errorf("offer\n got %s\nwant %s", got, want)
	}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestUnusableEntryCostsOnlyItself(t *testing.T) {
	id := bridgePod()
	id.Hostname = "not a name"
	id.Resolver = identity.Resolver{
		Servers: addrs("127.0.0.53", "::1", "fd00::10", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::ffff:10.96.0.10", "10.96.0.10", "8.0.0.8"),
		Search:  []string{".", "", "a..b", strings.Repeat("x", 64) + ".org", strings.Repeat("long.", 60) + "org", "b\x00d", "Svc.Cluster.Local.", "svc.cluster.local", "_ok.org"},
	}
	id.V4.Routes = append(id.V4.Routes, via("fd00::/64", "fd00::1"), onLink("10.9.0.0/16"))
	offer, warnings, err := NewOffer(id, Settings{MTU: 9000, Extra: []Option{{224, []byte{1}}, {224, []byte{2}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := Offer{
		Address: id.V4.First().Prefix, Gateway: id.V4.Gateway, ServerIdentifier: id.V4.Gateway, MTU: 1450, Socket: SocketPacket,
		Routes: []identity.Route{onLink("10.9.0.0/16"), via("0.0.0.0/0", "10.244.1.1")},
		DNS:    addrs("10.96.0.10", "8.0.0.8"), Search: []string{"svc.cluster.local", "_ok.org"}, DomainName: "svc.cluster.local",
		Options: []Option{{224, []byte{2}}},
	}
	if diff := cmp.Diff(want, offer, equateAddrs); diff != "" {
		t.Errorf("offer (-want +got):\n%s", diff)
	}
	wantWarnings := []string{
		"route to fd00::/64 by fd00::1 is not handed out: it is not IPv4",
		"mtu 9000 is more than the pod's interface carries: 1450 is handed out",
		"resolver 127.0.0.53 is not handed out: it is the pod's loopback, which the guest cannot reach",
		"resolver ::1 is not handed out: it is the pod's loopback, which the guest cannot reach",
		"resolver fd00::10 is not handed out: only IPv4 is served",
		"resolver 0.0.0.0 is not handed out: it is not the address of a host",
		"resolver 224.0.0.1 is not handed out: it is not the address of a host",
		"resolver 255.255.255.255 is not handed out: it is not the address of a host",
		`search domain "." is not handed out: the root is not a domain to search`,
		`search domain "" is not handed out: the root is not a domain to search`,
		`search domain "a..b" is not handed out: an empty label`,
		`search domain "` + strings.Repeat("x", 64) + `.org" is not handed out: a label longer than 63 characters`,
		`search domain "` + strings.Repeat("long.", 16) + `" is not handed out: longer than 253 characters`,
		`search domain "b\x00d" is not handed out: the character '\x00'`,
		`hostname "not a name" is not handed out: the character ' '`,
		"option 224 is given more than once: the last one counts",
	}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestOptionsThatContradictThemselvesAreErrors(t *testing.T) {
	for _, tt := range []struct {
		name    string
		id      identity.Identity
		options Settings
		want    string
	}{
		{"no address", identity.Identity{}, Settings{}, "the interface has no IPv4 address: there is nothing to serve"},
		{"IPv6", identity.Identity{V4: identity.Family{Addresses: []identity.Address{{Prefix: prefix("fd00::5/64")}}}}, Settings{}, "the guest's address fd00::5/64 is not IPv4"},
		{"lease", bridgePod(), Settings{LeaseTime: 1500 * time.Millisecond}, "the lease time (--lease-time) 1.5s is not a whole number of seconds"},
		{"negative lease", bridgePod(), Settings{LeaseTime: -time.Second}, "the lease time (--lease-time) -1s is not a whole number of seconds"},
		{"long lease", bridgePod(), Settings{LeaseTime: v4.InfiniteLease * time.Second}, "the lease time (--lease-time) 1193046h28m15s is too long for DHCP: make it infinite"},
		{"mtu", bridgePod(), Settings{MTU: 20}, "--mtu takes 68 to 65535, not 20"},
		{"mask", bridgePod(), Settings{SubnetMask: "24"}, `--subnet-mask takes guest or pod, not "24"`},
		{"boot file", bridgePod(), Settings{BootFiles: []BootFile{{File: strings.Repeat("x", 128)}}}, fmt.Sprintf("boot file %q is longer than 127 bytes", strings.Repeat("x", 128))},
		{"boot files", bridgePod(), Settings{BootFiles: []BootFile{{File: "a"}, {File: "b"}}}, `boot files "a" and "b" are for the same clients`},
		{"boot files of one architecture", bridgePod(), Settings{BootFiles: []BootFile{
			{File: "a", Architectures: []uint16{7, 9}, UserClass: "x"}, {File: "b", Architectures: []uint16{9}}, {File: "c", Architectures: []uint16{9}, UserClass: "x"},
		}}, `boot files "user-class:x,arch:7,arch:9,a" and "user-class:x,arch:9,c" are both for clients of the architecture 9`},
		{"option", bridgePod(), Settings{Extra: []Option{{53, []byte{5}}}}, "option 53 cannot be set: it depends on the message"},
		{"empty option", bridgePod(), Settings{Extra: []Option{{224, nil}}}, "option 224 has 0 bytes, not 1 to 1024"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := NewOffer(tt.id, tt.options); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
