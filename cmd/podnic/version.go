package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (make build).
var version = "unknown"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of podnic, of Go, and the platform it was built for.

Exit status: 0.`,
		Example: `  podnic version -o json`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			asJSON, err := a.common.json()
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(map[string]string{"version": buildVersion(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err = fmt.Fprintln(a.out, versionText())
			return err
		},
	}
}

// buildVersion is the version where the linker said nothing too: that of the module.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}

// versionText is what `podnic version` prints.
func versionText() string {
	return fmt.Sprintf("podnic %s (%s, %s/%s)", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
