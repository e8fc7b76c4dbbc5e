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
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			asJSON, err := a.common.json()
			if err != nil {
				return err
			}
			v := buildVersion()
			if asJSON {
				return printJSON(a.out, map[string]string{"version": v, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err = fmt.Fprintf(a.out, "podnic %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
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
