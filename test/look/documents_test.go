package look

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// macs differ from pod to pod where a plugin draws them.
var macs = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// documented compares what a command printed with what a document of docs/ says that it prints: the indented block that
// begins with "$ podnic " and the command.
func documented(t *testing.T, document, command, printed string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "    $ podnic "+command+"\n")
	if !found {
		t.Fatalf("docs/%s does not show podnic %s", document, command)
	}
	var shown strings.Builder
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			break
		}
		shown.WriteString(strings.TrimPrefix(line, "    "))
	}
	normal := func(text string) string {
		return macs.ReplaceAllString(settled(strings.TrimSpace(text)+"\n"), "MAC")
	}
	if diff := cmp.Diff(normal(shown.String()), normal(printed)); diff != "" {
		t.Errorf("docs/%s, podnic %s (the document is -, what was printed +):\n%s\nprinted was:\n%s", document, command, diff, printed)
	}
}
