package look

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSecurityNamesTestsThatThereAre looks for the tests by which docs/security.md shows what it says.
func TestSecurityNamesTestsThatThereAre(t *testing.T) {
	b, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(b)
	there := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, f := range function.FindAllStringSubmatch(string(text), -1) {
			there[f[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(document, -1)
	if len(named) == 0 {
		t.Error("no test is named")
	}
	for _, n := range named {
		if !there[n[1]] {
			t.Errorf("there is no %s", n[1])
		}
	}
	// What somebody cannot do, a test shows.
	for line := range strings.Lines(document) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.TrimSpace(cells[1]) == "cannot" && !slices.ContainsFunc(named, func(n []string) bool { return strings.Contains(cells[3], n[0]) }) {
			t.Errorf("no test shows: %s", line)
		}
	}
}
