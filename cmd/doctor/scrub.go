package doctor

import (
	"regexp"
	"sync"
)

// secrets are what a text may hold of them: DHCP options that were given by hand (as dhcp.Option writes them), what stands
// behind a telling word or an authorization scheme, and names and passwords in URLs. They are compiled when they are
// first used: every command of podnic would wait for it otherwise.
var secrets = sync.OnceValue(func() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`(\b\d{1,3}=hex:)[0-9a-fA-F]+`),
		regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|private[-_]?key|credentials?)[\\"']*\s*[=:]\s*[\\"']*)[^\s\\"',;&<>]+`),
		regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{4,}`),
		regexp.MustCompile(`(://)[^/@\s"]+(@)`),
	}
})

// scrub leaves out what may be a secret. It is the second line: what is known to hold secrets is not in a bundle at all.
func scrub(text []byte) []byte {
	for _, s := range secrets() {
		text = s.ReplaceAll(text, []byte("${1}left-out${2}"))
	}
	return text
}
