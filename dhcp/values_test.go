package dhcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/network/identity"
)

func TestResolvConfAsPodsHaveIt(t *testing.T) {
	many := make([]string, 32)
	for i := range many {
		many[i] = strings.Repeat("d", i+1) + "." + strings.Repeat("e", 60) + ".example.org"
	}
	for _, tt := range []struct {
		name, text string
		want       identity.Resolver
		warnings   []string
	}{
		{name: "nothing"},
		{
			name: "kubernetes",
			text: "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
			want: identity.Resolver{Servers: addrs("10.96.0.10"), Search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}},
		},
		{name: "CRLF and no final newline", text: "nameserver 10.0.0.1\r\nsearch a.org\r\nnameserver 10.0.0.2",
			want: identity.Resolver{Servers: addrs("10.0.0.1", "10.0.0.2"), Search: []string{"a.org"}}},
		{name: "comments", text: "# nameserver 10.0.0.9\n; nameserver 10.0.0.8\nnameserver 10.0.0.1 # the one\nsearch a.org ;b.org\n  nameserver\t10.0.0.2\n",
			want: identity.Resolver{Servers: addrs("10.0.0.1", "10.0.0.2"), Search: []string{"a.org"}}},
		{name: "only IPv6", text: "nameserver fd00:10:96::a\nnameserver fe80::1%eth0\n",
			want: identity.Resolver{Servers: addrs("fd00:10:96::a", "fe80::1%eth0")}},
		{name: "IPv4 in IPv6, twice", text: "nameserver ::ffff:10.0.0.1\nnameserver 10.0.0.1\n", want: identity.Resolver{Servers: addrs("10.0.0.1")}},
		{name: "the last of search and domain counts", text: "search a.org b.org\ndomain c.org d.org\n", want: identity.Resolver{Search: []string{"c.org"}}},
		{name: "search nothing", text: "search a.org\nsearch\n", want: identity.Resolver{Search: []string{}}},
		{name: "the root", text: "search .\n", want: identity.Resolver{Search: []string{"."}}},
		{name: "32 domains", text: "search " + strings.Join(many, " ") + "\n", want: identity.Resolver{Search: many}},
		{name: "unreadable lines", text: "nameserver\nnameserver dns.example.org\nnameserver 10.0.0.1\nsortlist 10.0.0.0\nnonsense\n",
			want: identity.Resolver{Servers: addrs("10.0.0.1")},
			warnings: []string{
				"resolver configuration, line 1: nameserver without an address",
				`resolver configuration, line 2: nameserver "dns.example.org" is not an address`,
			}},
		{name: "endless", text: "nameserver 10.0.0.1\n" + strings.Repeat("#\n", maxResolvConf) + "nameserver 10.0.0.2\n",
			want:     identity.Resolver{Servers: addrs("10.0.0.1")},
			warnings: []string{"resolver configuration: everything after 65536 bytes is left out"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings := ParseResolvConf([]byte(tt.text))
			if diff := cmp.Diff(tt.want, got, equateAddrs); diff != "" {
				t.Errorf("resolver (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseOption(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{in: "224=string:hello", want: "224=hex:68656c6c6f"},
		{in: "43=hex:01:04:C0:A8", want: "43=hex:0104c0a8"},
		{in: "33=ip:10.0.0.1, 10.0.0.2", want: "33=hex:0a0000010a000002"},
		{in: "19=bool:true", want: "19=hex:01"},
		{in: "23=uint8:64", want: "23=hex:40"},
		{in: "22=uint16:576", want: "22=hex:0240"},
		{in: "2=uint32:0xffffffff", want: "2=hex:ffffffff"},
		{in: "119=domains:B.org,a.b.org.", want: "119=hex:0162036f7267000161c000"},
		{in: "224", err: `option "224": want CODE=TYPE:VALUE`},
		{in: "224=string", err: `option "224=string": want CODE=TYPE:VALUE`},
		{in: "256=string:x", err: `option "256=string:x": the code "256" is not a number from 1 to 254`},
		{in: "x=string:x", err: `option "x=string:x": the code "x" is not a number from 1 to 254`},
		{in: "0=string:x", err: "option 0 cannot be set: it is padding"},
		{in: "255=string:x", err: "option 255 cannot be set: it ends the options"},
		{in: "1=ip:255.0.0.0", err: "option 1 cannot be set: use --subnet-mask"},
		{in: "51=uint32:5", err: "option 51 cannot be set: use --lease-time"},
		{in: "54=ip:10.0.0.1", err: "option 54 cannot be set: it must be an address that this server answers for"},
		{in: "55=hex:01", err: "option 55 cannot be set: only a client sends it"},
		{in: "82=hex:01", err: "option 82 cannot be set: it repeats what the client sent"},
		{in: "224=text:x", err: `option 224: unknown type "text", want ip, string, hex, uint8, uint16, uint32, bool or domains`},
		{in: "224=string:", err: "option 224: the value is empty"},
		{in: "224=hex::", err: "option 224: the value is empty"},
		{in: "224=hex:0", err: `option 224: "0" is not hexadecimal: want two digits for each byte, such as 0a:ff`},
		{in: "43=hex:zz", err: `option 43: "zz" is not hexadecimal: want two digits for each byte, such as 0a:ff`},
		{in: "224=ip:fd00::1", err: `option 224: "fd00::1" is not an IPv4 address`},
		{in: "224=uint8:256", err: `option 224: "256" is not an unsigned number of 8 bits`},
		{in: "224=bool:yes", err: `option 224: "yes" is neither true nor false`},
		{in: "224=domains:a..b", err: `option 224: domain "a..b": an empty label`},
		{in: "224=hex:" + strings.Repeat("00", 1025), err: "option 224: the value has 1025 bytes, at most 1024 can be sent"},
	} {
		got, err := ParseOption(tt.in)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: got %v, want the error %s", tt.in, err, tt.err)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.in, got, err, tt.want)
		}
		var again Option
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again.String() != tt.want {
			t.Errorf("%s: read again: %s, %v", tt.in, again, err)
		}
	}
}

func TestParseBootFile(t *testing.T) {
	long := strings.Repeat("x", 128)
	for text, want := range map[string]string{
		"pxelinux.0":                                  "pxelinux.0",
		"http://198.51.100.7:8080/a,b?c=d,e":          "http://198.51.100.7:8080/a,b?c=d,e",
		"arch:7,ipxe.efi":                             "arch:7,ipxe.efi",
		"arch:0x7,arch:9,arch:7,ipxe.efi":             "arch:7,arch:9,ipxe.efi",
		"user-class:iPXE,http://[2001:db8::7]/a.ipxe": "user-class:iPXE,http://[2001:db8::7]/a.ipxe",
		"arch:7,user-class:iPXE,a":                    "user-class:iPXE,arch:7,a",
		"./tag:x,a":                                   "./tag:x,a",
		"":                                            "! a boot file has no name",
		"arch:7,":                                     "! a boot file has no name",
		"arch:7":                                      `! boot file "arch:7": the file is missing: want CONDITION,FILE`,
		"arch:efi,a":                                  `! boot file "arch:efi,a": "efi" is not the number of an architecture (RFC 4578), such as 0 (BIOS) or 7 (x64 UEFI)`,
		"arch:65536,a":                                `! boot file "arch:65536,a": "65536" is not the number of an architecture (RFC 4578), such as 0 (BIOS) or 7 (x64 UEFI)`,
		"user-class:,a":                               `! boot file "user-class:,a": a user class has 1 to 255 bytes, such as iPXE`,
		"user-class:a,user-class:b,c":                 `! boot file "user-class:a,user-class:b,c": a client has one user class, not "a" and "b"`,
		"tag:efi,a":                                   `! boot file "tag:efi,a": unknown condition "tag", want arch:NUMBER or user-class:TEXT (or ./ before a file of that name)`,
		"arch:7,userclass:iPXE,a":                     `! boot file "arch:7,userclass:iPXE,a": unknown condition "userclass", want arch:NUMBER or user-class:TEXT (or ./ before a file of that name)`,
		long:                                          fmt.Sprintf("! boot file %q is longer than 127 bytes", long),
	} {
		b, err := ParseBootFile(text)
		got := b.String()
		if err != nil {
			got = "! " + err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestUserClassIsReadInBothForms: as a text, and as the list of texts of RFC 3004.
func TestUserClassIsReadInBothForms(t *testing.T) {
	for class, want := range map[string]bool{
		"iPXE": true, "\x04iPXE": true, "\x01a\x04iPXE": true, "": false, "iPXE2": false, "\x05iPXE": false, "\x04iPX": false, "\x00\x04iPXE": true,
	} {
		if got := (bootClient{userClass: []byte(class)}).hasClass(classIPXE); got != want {
			t.Errorf("%q: %v", class, got)
		}
	}
}
