// Package reference writes what the commands say of themselves as documents: a page for each. Only a build with the tag docs
// links it: the generator would make podnic 635 kB larger (a twentieth), for what a reader of the pages never runs.
package reference

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Markdown writes a file for each command into a directory that is there.
func Markdown(root *cobra.Command, dir string) error {
	forMarkdown(root)
	if err := doc.GenMarkdownTree(root, dir); err != nil {
		return fmt.Errorf("write the reference: %w", err)
	}
	return nil
}

// Man writes a page of section 1 for each command into a directory that is there. date is that of all pages.
func Man(root *cobra.Command, dir, version string, date time.Time) error {
	forMarkdown(root)
	header := &doc.GenManHeader{Section: "1", Source: "podnic " + version, Manual: "podnic", Date: &date}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fmt.Errorf("write the man pages: %w", err)
	}
	return nil
}

// Directory makes a directory if it is not there.
func Directory(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the directory of the reference: %w", err)
	}
	return nil
}

// forMarkdown makes Markdown of help texts, of which both kinds of pages are made: what is set off by two spaces is literal, and
// elsewhere no character means anything.
func forMarkdown(cmd *cobra.Command) {
	var b strings.Builder
	for line := range strings.Lines(cmd.Long) {
		if strings.HasPrefix(line, "  ") {
			b.WriteString("  " + line)
		} else {
			b.WriteString(strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`).Replace(line))
		}
	}
	cmd.Long = b.String()
	for _, sub := range cmd.Commands() {
		forMarkdown(sub)
	}
}
