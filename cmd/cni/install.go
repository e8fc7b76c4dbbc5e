package cni

import (
	"fmt"
	"os"
	"path/filepath"
)

// programName is what network configurations call the plugin.
const programName = "podnic"

// Install puts a program into a node's directory of plugins, and a network configuration, unless its path is empty, into
// a directory of those, where it keeps its name. What is there already is replaced whole: a runtime may be using it.
func Install(program, binDir, network, confDir string) error {
	if err := install(program, filepath.Join(binDir, programName), 0o755); err != nil {
		return err
	}
	if network == "" {
		return nil
	}
	return install(network, filepath.Join(confDir, filepath.Base(network)), 0o644)
}

// install copies a file by way of another name, which no runtime takes for a plugin or a configuration.
func install(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("install %s: %w", to, err)
	}
	next := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".new")
	err = os.WriteFile(next, data, mode)
	if err == nil {
		err = os.Chmod(next, mode) // whatever the umask, and the mode of one that was left over
	}
	if err == nil {
		err = os.Rename(next, to)
	}
	if err != nil {
		return fmt.Errorf("install %s: %w", to, err)
	}
	return nil
}
