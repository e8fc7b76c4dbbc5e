//go:build docs

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/podnic/podnic/cmd/reference"
	"github.com/spf13/cobra"
)

func init() { ofBuilds["docs"] = (*app).docsCommand }

// docsCommand is hidden from its own documents: the podnic that people run does not have it.
func (a *app) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "docs man|markdown DIRECTORY",
		Short:  "Write the reference: man pages, or docs/reference",
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 && (args[0] == "man" || args[0] == "markdown") {
				return nil
			}
			return usageError{errors.New("name what to write, man or markdown, and the directory for it")}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := reference.Directory(args[1]); err != nil {
				return err
			}
			root := new(app).root()
			if args[0] == "markdown" {
				return reference.Markdown(root, args[1])
			}
			// The same pages from the same source (https://reproducible-builds.org/specs/source-date-epoch).
			date := time.Now()
			if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
				seconds, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					return usageError{fmt.Errorf("SOURCE_DATE_EPOCH takes seconds since 1970, not %q", text)}
				}
				date = time.Unix(seconds, 0).UTC()
			}
			return reference.Man(root, args[1], buildVersion(), date)
		},
	}
}
