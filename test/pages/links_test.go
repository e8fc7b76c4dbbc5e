package pages

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]+))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// noAnchor is what a heading's anchor has not, once blanks are hyphens.
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}_-]`)
)

// TestLinksOfThePagesLeadSomewhere: to a file that is there, and to a heading that it has.
func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	links := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "docs/reference/*.md"} {
		pages, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range link.FindAllStringSubmatch(string(text), -1) {
				links++
				to := page
				if l[1] != "" {
					to = filepath.Join(filepath.Dir(page), l[1])
				}
				if _, err := os.Stat(to); err != nil {
					t.Errorf("%s: %s leads nowhere", page, l[0])
				} else if l[2] != "" && !slices.Contains(anchors(t, to), l[2]) {
					t.Errorf("%s: %s: there is no such heading", page, l[0])
				}
			}
		}
	}
	if links < 100 {
		t.Errorf("the pages have %d links", links)
	}
}

// anchors are those that GitHub makes of a page's headings.
func anchors(t *testing.T, path string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
		all = append(all, noAnchor.ReplaceAllString(strings.ReplaceAll(strings.ToLower(h[1]), " ", "-"), ""))
	}
	return all
}
