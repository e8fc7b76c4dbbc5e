package dhcp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// BootFile is a boot file and the clients that it is for.
type BootFile struct {
	// Architectures are numbers of option 93 (RFC 4578 §2.1), of which the client has one; empty means whichever.
	Architectures []uint16 `json:"architectures,omitempty"`
	// UserClass is the client's option 77; empty means whichever.
	UserClass string `json:"userClass,omitempty"`
	// File is a path on the TFTP server or a URL, of at most 127 bytes.
	File string `json:"file"`
}

// Conditions before the name of a boot file.
const (
	bootArchitecture = "arch:"
	bootUserClass    = "user-class:"
)

// likeCondition is what nobody means to be the name of a file: a word, a colon, and something else after a comma.
var likeCondition = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^!?([A-Za-z-]+):[^/,]*,`) })

// ParseBootFile reads [arch:NUMBER,]…[user-class:TEXT,]FILE. Of several architectures the client has to have one.
func ParseBootFile(s string) (BootFile, error) {
	var b BootFile
	rest := s
	for {
		condition, after, more := strings.Cut(rest, ",")
		number, isArchitecture := strings.CutPrefix(condition, bootArchitecture)
		class, isClass := strings.CutPrefix(condition, bootUserClass)
		if !isArchitecture && !isClass {
			break
		}
		if !more {
			return b, fmt.Errorf("boot file %q: the file is missing: want CONDITION,FILE", s)
		}
		switch n, err := strconv.ParseUint(number, 0, 16); {
		case isArchitecture && err != nil:
			return b, fmt.Errorf("boot file %q: %q is not the number of an architecture (RFC 4578), such as 0 (BIOS) or 7 (x64 UEFI)", s, number)
		case isArchitecture && !slices.Contains(b.Architectures, uint16(n)):
			b.Architectures = append(b.Architectures, uint16(n))
		case isArchitecture:
		case class == "" || len(class) > v4.MaxPart:
			return b, fmt.Errorf("boot file %q: a user class has 1 to %d bytes, such as iPXE", s, v4.MaxPart)
		case b.UserClass != "":
			return b, fmt.Errorf("boot file %q: a client has one user class, not %q and %q", s, b.UserClass, class)
		default:
			b.UserClass = class
		}
		rest = after
	}
	if m := likeCondition().FindStringSubmatch(rest); m != nil {
		return b, fmt.Errorf("boot file %q: unknown condition %q, want arch:NUMBER or user-class:TEXT (or ./ before a file of that name)", s, m[1])
	}
	b.File = rest
	return b, b.check()
}

func (b BootFile) check() error {
	switch {
	case b.File == "":
		return errors.New("a boot file has no name")
	case len(b.File) > maxBootFile:
		return fmt.Errorf("boot file %q is longer than %d bytes", b.File, maxBootFile)
	}
	return nil
}

// String is a form that ParseBootFile reads.
func (b BootFile) String() string {
	var text strings.Builder
	if b.UserClass != "" {
		text.WriteString(bootUserClass + b.UserClass + ",")
	}
	for _, a := range b.Architectures {
		fmt.Fprintf(&text, "%s%d,", bootArchitecture, a)
	}
	return text.String() + b.File
}

// specificity orders files for a client that several are for. A user class comes before an architecture: the iPXE that was
// loaded as the file of its architecture must not be given itself again.
func (b BootFile) specificity() int {
	n := 0
	if b.UserClass != "" {
		n += 2
	}
	if len(b.Architectures) > 0 {
		n++
	}
	return n
}

// checkBootFiles finds files that are for the same clients. Of two with the same conditions one would never be sent.
func checkBootFiles(files []BootFile) error {
	for i, b := range files {
		if err := b.check(); err != nil {
			return err
		}
		for _, other := range files[:i] {
			if other.UserClass != b.UserClass || other.specificity() != b.specificity() {
				continue
			}
			if len(b.Architectures) == 0 {
				return fmt.Errorf("boot files %q and %q are for the same clients", other, b)
			}
			for _, a := range b.Architectures {
				if slices.Contains(other.Architectures, a) {
					return fmt.Errorf("boot files %q and %q are both for clients of the architecture %d", other, b, a)
				}
			}
		}
	}
	return nil
}

// sortBootFiles puts the most specific first.
func sortBootFiles(files []BootFile) []BootFile {
	sorted := slices.Clone(files)
	slices.SortStableFunc(sorted, func(a, b BootFile) int { return cmp.Compare(b.specificity(), a.specificity()) })
	return sorted
}

// bootClient is what a request says of the firmware that sends it.
type bootClient struct {
	// is: boot firmware sends it, and not the system that it boots.
	is            bool
	architectures []byte // option 93, two bytes each
	userClass     []byte // option 77
	ipxe          bool
	http          bool // it wants a URL (UEFI 2.5 §23.7)
}

// Vendor classes of firmware, up to the colon (RFC 4578 §2.1, UEFI 2.5 §23.7), and the user class of iPXE.
var (
	classPXE  = []byte("PXEClient")
	classHTTP = []byte("HTTPClient")
	classIPXE = []byte("iPXE")
)

func bootClientOf(m *v4.Message) bootClient {
	vendor := m.Option(v4.CodeVendorClass)
	c := bootClient{
		architectures: m.Option(v4.CodeArchitecture),
		userClass:     m.Option(v4.CodeUserClass),
		http:          bytes.HasPrefix(vendor, classHTTP),
	}
	c.ipxe = c.hasClass(classIPXE)
	c.is = c.architectures != nil || c.ipxe || c.http || bytes.HasPrefix(vendor, classPXE)
	return c
}

// hasClass reports whether a client is of a user class. Firmware sends the text as it stands; RFC 3004 has a list of texts
// with a byte of length before each.
func (c bootClient) hasClass(class []byte) bool {
	if bytes.Equal(c.userClass, class) {
		return true
	}
	for rest := c.userClass; len(rest) > 0 && int(rest[0]) < len(rest); rest = rest[1+int(rest[0]):] {
		if bytes.Equal(rest[1:1+int(rest[0])], class) {
			return true
		}
	}
	return false
}

// wants reports whether a boot file is for a client.
func (c bootClient) wants(b BootFile) bool {
	if b.UserClass != "" && !c.hasClass([]byte(b.UserClass)) {
		return false
	}
	if len(b.Architectures) == 0 {
		return true
	}
	for rest := c.architectures; len(rest) >= 2; rest = rest[2:] {
		if slices.Contains(b.Architectures, binary.BigEndian.Uint16(rest)) {
			return true
		}
	}
	return false
}

// noProxyDHCP is the value of iPXE's option 175 that has it not wait for a ProxyDHCP server: no-pxedhcp, 176, is 1
// (https://ipxe.org/cfg/no-pxedhcp). None is ever heard, since no DHCP but the server's reaches the guest.
var noProxyDHCP = []byte{0xb0, 1, 1}
