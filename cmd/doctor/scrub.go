package doctor

import "regexp"

// secrets are what a text may hold of them: DHCP options that were given by hand (as dhcp.Option writes them), what stands
// behind a telling word or an authorization scheme, and names and passwords in URLs.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(\b\d{1,3}=hex:)[0-9a-fA-F]+`),
	regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|private[-_]?key|credentials?)[\\"']*\s*[=:]\s*[\\"']*)[^\s\\"',;&<>]+`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{4,}`),
	regexp.MustCompile(`(://)[^/@\s"]+@`),
}

// scrub leaves out what may be a secret. It is the second line: what is known to hold secrets is not in a bundle at all.
func scrub(text []byte) []byte {
	for _, s := range secrets[:3] {
		text = s.ReplaceAll(text, []byte("${1}left-out"))
	}
	return secrets[3].ReplaceAll(text, []byte("${1}left-out@"))
}
