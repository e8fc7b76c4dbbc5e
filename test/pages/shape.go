package pages

import (
	"regexp"
	"slices"
	"strings"
)

// differs are the parts of a line that differ from run to run, and what stands for them.
var differs = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`), "MAC"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?`), "TIME"},
	{regexp.MustCompile(`\b(\d+[dhm])*\d+s\b`), "TIME"}, // an age, as kubectl prints it
	{regexp.MustCompile(`\b[0-9a-f]{1,4}:[0-9a-f:]*:[0-9a-f:.]*|::[0-9a-f]+`), "IPV6"},
	{regexp.MustCompile(`\b[0-9a-f]{8}\b`), "N"},
	{regexp.MustCompile(`\b(0x)?[0-9a-f]*\d[0-9a-f]*\b`), "N"},
	{regexp.MustCompile(`\bN(\.N)+`), "N"},
	{regexp.MustCompile(`\bN(\.N)? ?(ms|s)\b`), "TIME"},
	{regexp.MustCompile(`\s+lost N\s*$`), ""}, // the frames that came before a busy machine's guest opened the tap
	{regexp.MustCompile(`\s+`), " "},
	{regexp.MustCompile(`, `), ","},
}

// shape is a line without what differs from run to run.
func shape(line string) string {
	for _, d := range differs {
		line = d.pattern.ReplaceAllString(line, d.by)
	}
	return strings.TrimSpace(line)
}

// Unlike is the first line of those that a page prints that has none like it, after the one before, in what a command said. An
// ellipsis stands for anything.
func Unlike(prints []string, said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		lines = append(lines, shape(line))
	}
	for i := 0; i < len(prints); i++ {
		if prints[i] == "…" {
			continue
		}
		// A line may be broken for the page.
		at, taken := -1, 0
		for ; at < 0 && taken < 8 && i+taken < len(prints); taken++ {
			want := shape(strings.Join(prints[i:i+taken+1], " "))
			pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$")
			at = slices.IndexFunc(lines, pattern.MatchString)
		}
		if at < 0 {
			return prints[i]
		}
		i += taken - 1
		lines = lines[at+1:]
	}
	return ""
}
