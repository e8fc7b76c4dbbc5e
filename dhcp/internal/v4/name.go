package v4

import (
	"errors"
	"fmt"
	"strings"
)

// DNS limits in bytes (RFC 1035 §2.3.4). 253 characters of text make the 255 bytes that a name may have on the wire.
const (
	maxLabel = 63
	maxName  = 253
)

// CleanName returns a domain or host name in the one form that is sent: lower case, no trailing dot. Names that a
// resolver could not use are errors.
func CleanName(name string) (string, error) {
	clean := strings.ToLower(strings.TrimSuffix(name, "."))
	if clean == "" {
		return "", errors.New("the root is not a domain to search")
	}
	if len(clean) > maxName {
		return "", fmt.Errorf("longer than %d characters", maxName)
	}
	for label := range strings.SplitSeq(clean, ".") {
		if label == "" {
			return "", errors.New("an empty label")
		}
		if len(label) > maxLabel {
			return "", fmt.Errorf("a label longer than %d characters", maxLabel)
		}
		if i := strings.IndexFunc(label, notNameRune); i >= 0 {
			return "", fmt.Errorf("the character %q", []rune(label[i:])[0])
		}
	}
	return clean, nil
}

// notNameRune allows the underscore besides letters, digits and hyphens: it is not for host names, but real search lists
// have it.
func notNameRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// EncodeNames writes clean names as RFC 3397 has them: DNS labels, with compression pointers that count from the first
// byte of the whole option, however often it is split (RFC 3396).
//
// Only names that are written out in full are pointed at. That costs a few bytes where a list is odd and spares clients
// whose decoders do not follow a pointer to another pointer.
func EncodeNames(names []string) []byte {
	const maxPointer = 1<<14 - 1
	var (
		data  []byte
		known = make(map[string]int) // suffix to offset
	)
	for _, name := range names {
		fresh := make(map[string]int)
		rest, pointed := name, false
		for rest != "" {
			if at, ok := known[rest]; ok {
				data = append(data, 0xc0|byte(at>>8), byte(at))
				pointed = true
				break
			}
			if len(data) <= maxPointer {
				fresh[rest] = len(data)
			}
			label, tail, _ := strings.Cut(rest, ".")
			data = append(data, byte(len(label)))
			data = append(data, label...)
			rest = tail
		}
		if pointed {
			continue
		}
		data = append(data, 0)
		for suffix, at := range fresh {
			known[suffix] = at
		}
	}
	return data
}
