package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// configureAgain takes back what configure set and sets it anew, since the file may say something else now.
func (a *app) configureAgain(cmd *cobra.Command) error {
	var err error
	for _, f := range a.configured {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			err = errors.Join(err, list.Replace(nil))
		} else {
			err = errors.Join(err, f.Value.Set(f.DefValue))
		}
		f.Changed = false
	}
	a.configured = nil
	return errors.Join(err, a.configure(cmd))
}

// configure sets the flags that the command line did not, from the environment and then from the configuration file.
func (a *app) configure(cmd *cobra.Command) error {
	given := make(map[string]bool)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { given[f.Name] = f.Changed })
	defer func() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Changed && !given[f.Name] {
				a.configured = append(a.configured, f)
			}
		})
	}()
	set := func(f *pflag.Flag, text, from string) error {
		if f.Changed {
			return nil
		}
		if err := cmd.Flags().Set(f.Name, text); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		return nil
	}
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := "PODNIC_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(f.Name))
		if text, ok := os.LookupEnv(name); ok && err == nil && f.Name != "help" {
			err = set(f, text, name)
		}
	})
	if err != nil || a.common.config == "" {
		return err
	}
	values, err := readConfig(a.common.config)
	if err != nil {
		return err
	}
	known := allFlags(cmd.Root())
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			return fmt.Errorf("%s: there is no setting %q; settings have the names of the flags", a.common.config, name)
		}
		f := cmd.Flags().Lookup(name)
		if f == nil || f.Changed {
			continue // another command's, or said more closely
		}
		for _, text := range values[name] {
			if err := cmd.Flags().Set(name, text); err != nil {
				return fmt.Errorf("%s: %s: %w", a.common.config, name, err)
			}
		}
	}
	return nil
}

// allFlags are the names of the flags of all commands: one file serves them all.
func allFlags(root *cobra.Command) map[string]bool {
	names := make(map[string]bool)
	add := func(f *pflag.Flag) { names[f.Name] = f.Name != "help" && f.Name != "config" && !f.Hidden }
	root.PersistentFlags().VisitAll(add)
	for _, c := range root.Commands() {
		c.Flags().VisitAll(add)
	}
	return names
}

// readConfig reads the file into texts as they would stand on a command line; lists are several.
func readConfig(path string) (map[string][]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	var file map[string]any
	if err := yaml.UnmarshalStrict(b, &file); err != nil {
		return nil, fmt.Errorf("the configuration %s is not a YAML map of settings: %w", path, err)
	}
	values := make(map[string][]string)
	if err := flatten(values, "", file); err != nil {
		return nil, fmt.Errorf("the configuration %s: %w", path, err)
	}
	return values, nil
}

// flatten makes hook: {timeout: 10s} what hook.timeout: 10s is.
func flatten(values map[string][]string, prefix string, from map[string]any) error {
	for name, value := range from {
		name = prefix + name
		switch v := value.(type) {
		case map[string]any:
			if err := flatten(values, name+".", v); err != nil {
				return err
			}
		case []any:
			values[name] = []string{}
			for _, e := range v {
				text, err := scalar(name, e)
				if err != nil {
					return err
				}
				values[name] = append(values[name], text)
			}
		default:
			text, err := scalar(name, v)
			if err != nil {
				return err
			}
			values[name] = []string{text}
		}
	}
	return nil
}

func scalar(name string, value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case float64: // JSON's only number
		return strconv.FormatFloat(v, 'f', -1, 64), nil // all of it, so that the flag refuses a fraction
	}
	return "", fmt.Errorf("%s takes a text, a number or a list of them", name)
}
