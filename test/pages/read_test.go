package pages

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// all are the documents, by their paths in the repository. The reference and the benchmarks are written by programs.
func all(t *testing.T) (pages []Page) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range found {
			page, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
		}
	}
	return pages
}

// TestEveryCommandIsRunOrSaysWhyNot holds each block of commands to one of three: a test of this package runs it, somebody else
// that there is does, or the page says why nobody can.
func TestEveryCommandIsRunOrSaysWhyNot(t *testing.T) {
	var run, elsewhere, not int
	for _, page := range all(t) {
		for _, b := range page.Blocks {
			switch {
			case len(b.Commands) == 0:
			case b.WhyNot != "":
				not += len(b.Commands)
			case len(b.Elsewhere) > 0:
				elsewhere += len(b.Commands)
				for _, who := range b.Elsewhere {
					if !there(t, who) {
						t.Errorf("%s:%d: there is no %s that could run this", page.Name, b.Line, who)
					}
				}
			case !slices.ContainsFunc(groups, func(g group) bool { return slices.Contains(g.pages, page.Name) }):
				t.Errorf("%s:%d: nobody runs this:\n%s", page.Name, b.Line, b.Text)
			default:
				run += len(b.Commands)
			}
		}
	}
	t.Logf("commands: %d are run here, %d elsewhere, %d nowhere", run, elsewhere, not)
}

// there reports whether that which is said to run a block is there: a target of make, or a test that reads the page.
func there(t *testing.T, who string) bool {
	t.Helper()
	if target, ok := strings.CutPrefix(who, "make "); ok {
		makefile, err := os.ReadFile("../../Makefile")
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).Match(makefile)
	}
	files, err := filepath.Glob("../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), "\nfunc "+who+"(") && strings.Contains(string(text), "pages.Read(")
	})
}

// TestBlocksAreRead reads a page that has all there is to read.
func TestBlocksAreRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "page.md")
	text := "# A page\n\n    podnic status   # twice\n    cat >file <<END\n    podnic: is text here\n    END\n    podnic run -- \\\n      qemu\n\n" +
		"1. An item.\n\n       $ podnic version\n       podnic 1\n       …\n\n   More.\n\n<!-- not run: a reason -->\n\n    make test\n\ntext\n    podnic no block\n\n" +
		"<!-- run by TestName and make e2e -->\n```\n$ kubectl get pod\n```\n\n    eth0   a drawing\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range page.Blocks {
		for _, c := range b.Commands {
			got = append(got, strings.Join([]string{c.Text, strings.Join(c.Prints, "|"), strings.Join(b.Elsewhere, "|"), b.WhyNot}, ";"))
		}
	}
	want := []string{
		"podnic status   # twice;;;", "cat >file <<END\npodnic: is text here\nEND;;;", "podnic run -- \\\n  qemu;;;",
		"podnic version;podnic 1|…;;", "make test;;;a reason", "kubectl get pod;;TestName|make e2e;",
	}
	if !slices.Equal(got, want) || len(page.Blocks) != 5 {
		t.Errorf("%d blocks:\n%q, want\n%q", len(page.Blocks), got, want)
	}
	for _, wrong := range []string{"<!-- not run: a reason -->\n\ntext\n", "text\n\n    a drawing\n\n    podnic status\n"} {
		if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("not refused: %q", wrong)
		}
	}
}

// TestUnlike of lines as a busy machine prints them, and of ones that are wrong.
func TestUnlike(t *testing.T) {
	t.Parallel()
	const line = "  tap0       b6:ec:42:96:6b:f3  up    mtu 1500  in 4  out 6"
	for _, test := range []struct {
		said string
		like bool
	}{
		{"eth0:\n  tap0  02:00:00:00:00:01  up    mtu 1500  in 12  out 3\n", true},
		{"  tap0  02:00:00:00:00:01  up    mtu 1500  in 4  out 3  lost 2\n✓\n", true}, // came before the guest opened the tap
		{"  tap0  02:00:00:00:00:01  down  mtu 1500  in 4  out 3\n", false},
		{"  tap0  02:00:00:00:00:01  up    mtu 1500  in 4  out 3  more\n", false},
	} {
		if missing := Unlike([]string{line}, test.said); (missing == "") != test.like {
			t.Errorf("%q: %q is missing", test.said, missing)
		}
	}
	if missing := Unlike([]string{"pod/vm   1/1   Running   0   5s"}, "pod/vm   1/1   Running   0   2m17s\n"); missing != "" {
		t.Errorf("of another age: %q is missing", missing)
	}
}
