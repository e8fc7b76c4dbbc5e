package look

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/podnic/podnic/test/podtest"
)

// shown are the documents that say what was seen, each by the name of the test.
var shown = []string{
	"cni.md", "interfaces.md", "ipv6.md", "kubevirt.md", "libvirt-hook.md", "pod-networks.md", "qemu.md", "security.md", "shared.md", "upgrading.md",
}

// pages are all documents that people write.
func pages(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	return slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, "/benchmarks.md") }) // make bench writes it
}

// TestPagesNameTestsThatThereAre looks for the tests by which pages show what they say: the function, the file or directory
// that is named behind it, and what a test calls its cases.
func TestPagesNameTestsThatThereAre(t *testing.T) {
	files := make(map[string][]string) // by the name of a function that is in them
	texts := make(map[string]string)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		helper := strings.HasPrefix(path, "../../test/") && strings.HasSuffix(path, ".go")
		if err != nil || !helper && !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		path = strings.TrimPrefix(path, "../../")
		texts[path] = string(b)
		for _, f := range function.FindAllStringSubmatch(texts[path], -1) {
			files[f[1]] = append(files[f[1]], path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages(t) {
		page := filepath.Base(path)
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)((?:/[^`]*)?)`(?:\\s+\\(`([^`]+)`)?").FindAllStringSubmatch(podtest.Read(t, path), -1)
		if len(named) == 0 && slices.Contains(shown, page) {
			t.Errorf("%s names no test", page)
		}
		for _, n := range named {
			in := slices.DeleteFunc(slices.Clone(files[n[1]]), func(path string) bool { return !strings.HasPrefix(path, n[3]) })
			if len(in) == 0 {
				t.Errorf("%s: there is no %s in %q", page, n[1], n[3])
			}
			if !slices.ContainsFunc(in, func(path string) bool { return hasCase(texts, path, n[2]) }) {
				t.Errorf("%s: %s has no case %s", page, n[1], n[2])
			}
		}
	}
}

// hasCase reports whether the package of a test's file, or one that makes pods and guests, has the words of a case, as testing
// writes it. Words of capitals, and an ellipsis, stand for any.
func hasCase(texts map[string]string, path, name string) bool {
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune("/_, \n", r) }) {
		if word == "…" || word == strings.ToUpper(word) && len(word) > 1 {
			continue
		}
		there := false
		for other, text := range texts {
			in := []string{filepath.Dir(path), "test/guest", "test/pod"}
			there = there || slices.Contains(in, filepath.Dir(other)) && strings.Contains(text, word)
		}
		if !there {
			return false
		}
	}
	return true
}

// TestPagesNameFilesThatThereAre looks for what pages name by its path in the repository. Capitals stand for any name. That of
// KubeVirt also names files of its sources.
func TestPagesNameFilesThatThereAre(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile("`((?:cmd|network|dhcp|domain|test|scripts|deploy|docs)/[\\w./*-]+)`")
	any := regexp.MustCompile(`[A-Z]{2,}|\.\.\.`)
	for _, page := range pages(t) {
		for _, path := range named.FindAllStringSubmatch(podtest.Read(t, page), -1) {
			found, err := filepath.Glob(filepath.Join("../..", any.ReplaceAllString(path[1], "*")))
			if err != nil || len(found) == 0 && !strings.HasPrefix(path[1], "cmd/virt-launcher/") {
				t.Errorf("%s names %s, which is not there (%v)", filepath.Base(page), path[1], err)
			}
		}
	}
}

// TestLinesOfPagesFit has none longer than 120 columns, but for rows of tables and addresses.
func TestLinesOfPagesFit(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		number := 0
		for line := range strings.Lines(podtest.Read(t, page)) {
			number++
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 120 && !strings.HasPrefix(line, "|") && !strings.Contains(line, "://") {
				t.Errorf("%s:%d has %d columns", page, number, n)
			}
		}
	}
}

func document(t *testing.T, page string) string {
	t.Helper()
	return podtest.Read(t, filepath.Join("../../docs", page))
}

// TestWhatSomebodyCannotDoATestShows holds docs/security.md to a test for each such row.
func TestWhatSomebodyCannotDoATestShows(t *testing.T) {
	named := regexp.MustCompile("`(?:Test|Fuzz)\\w+`")
	for line := range strings.Lines(document(t, "security.md")) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.TrimSpace(cells[1]) == "cannot" && !named.MatchString(cells[3]) {
			t.Errorf("no test shows: %s", line)
		}
	}
}

// TestPageOfPodNetworksIsTheTestsTables compares the networks and the kinds of links of docs/pod-networks.md with the rows of the
// tables that these are in.
func TestPageOfPodNetworksIsTheTestsTables(t *testing.T) {
	text := document(t, "pod-networks.md")
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, table := range []struct {
		section, path, row string
		// cell of a row of the page has the names, counted from 0.
		cell int
		// but are names in the cell that are none of rows.
		but []string
	}{
		{"Networks that work", "test/shapes/shapes_test.go", `(?m)^\t\tname: +"([^"]+)"`, 0, []string{"onlink"}},
		{"Kinds of links", "network/kinds_root_test.go", `(?m)^\t\{name: "([^"]+)"`, 4, nil},
	} {
		b, err := os.ReadFile(filepath.Join("../..", table.path))
		if err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, m := range regexp.MustCompile(table.row).FindAllStringSubmatch(string(b), -1) {
			rows = append(rows, m[1])
		}
		_, section, _ := strings.Cut(text, "\n## "+table.section+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if len(rows) < 10 || section == "" {
			t.Fatalf("%s has %d rows, and the section %q %d bytes", table.path, len(rows), table.section, len(section))
		}
		said := make(map[string]bool)
		for line := range strings.Lines(section) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if !strings.HasPrefix(line, "|") || len(cells) <= table.cell || strings.HasPrefix(line, "| `eth0` is |") || strings.HasPrefix(line, "| network, row") {
				continue
			}
			names := quoted.FindAllStringSubmatch(cells[table.cell], -1)
			if len(names) == 0 && !strings.Contains(cells[table.cell], "---") {
				t.Errorf("no test is named: %s", line)
			}
			for _, n := range names {
				if said[n[1]] = true; slices.Contains(rows, n[1]) || slices.Contains(table.but, n[1]) || strings.HasPrefix(n[1], "Test") || strings.Contains(n[1], "/") {
					continue
				}
				t.Errorf("%s: %s has no row %q", table.section, table.path, n[1])
			}
		}
		for _, row := range rows {
			if !said[row] {
				t.Errorf("%s: the page does not have the row %q of %s", table.section, row, table.path)
			}
		}
	}
}

// TestREADMELeadsToEveryPage and to nothing that is not there.
func TestREADMELeadsToEveryPage(t *testing.T) {
	t.Parallel()
	readme := document(t, "../README.md")
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := strings.TrimPrefix(page, "../../"); !strings.Contains(readme, "]("+name+")") {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil {
			t.Errorf("README.md leads to %s: %v", link[1], err)
		}
	}
}
