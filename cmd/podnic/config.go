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
	for _, f := range a.common.configured {
		err = errors.Join(err, takeBack(f))
	}
	a.common.configured, a.common.interfacesBy = nil, ""
	return errors.Join(err, a.configure(cmd))
}

// takeBack makes of a flag what it was before anything set it.
func takeBack(f *pflag.Flag) error {
	f.Changed = false
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.Replace(nil)
	}
	return f.Value.Set(f.DefValue)
}

// configure sets the flags that the command line did not, from the environment and then from the configuration file.
func (a *app) configure(cmd *cobra.Command) error {
	set := func(f *pflag.Flag, from string, texts ...string) error {
		if f.Changed || isUnused(f) && byConfiguration[cmd.CommandPath()] != f.Name {
			return nil // said more closely, or for other commands
		}
		a.common.configured = append(a.common.configured, f)
		if f.Name == "interface" {
			a.common.interfacesBy = from
		}
		for _, text := range texts {
			if err := cmd.Flags().Set(f.Name, text); err != nil {
				err = fmt.Errorf("%s: %w", from, inWords(cmd, err))
				if a.common.unchecked {
					a.common.warn(err)
					return takeBack(f)
				}
				return err
			}
		}
		return nil
	}
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := variableOf(settingOf(f))
		if text, ok := os.LookupEnv(name); ok && err == nil && f.Name != "help" && f.Name != "version" {
			err = set(f, name, text)
		}
	})
	if err == nil && a.common.config != "" {
		err = a.configureFromFile(cmd, set)
	}
	if err != nil {
		return err
	}
	err = noNegatives(cmd.Flags())
	if a.common.unchecked && err != nil {
		a.common.warn(err)
		return nil
	}
	return err
}

func (a *app) configureFromFile(cmd *cobra.Command, set func(f *pflag.Flag, from string, texts ...string) error) error {
	values, err := readConfig(a.common.config)
	if err != nil && !a.common.unchecked {
		return err
	}
	if err != nil {
		a.common.warn(err)
	}
	known, own := allSettings(), make(map[string]*pflag.Flag)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { own[settingOf(f)] = f })
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			err := fmt.Errorf("%s: there is no setting %q%s; settings have the names of the flags", a.common.config, name, didYouMean("", name, ours(known)))
			if !a.common.unchecked {
				return err
			}
			a.common.warn(err)
		}
		f := own[name]
		if f == nil {
			continue // another command's
		}
		if err := set(f, a.common.config+": "+name, values[name]...); err != nil {
			return err
		}
	}
	return nil
}

// ownSetting marks a flag whose setting in environment and file is the command's alone, since another command has a flag of that
// name with another meaning.
const ownSetting = "podnic: own setting"

// settingOf is the name of a flag in the file: its own, or that and the command's.
func settingOf(f *pflag.Flag) string {
	if command := f.Annotations[ownSetting]; len(command) > 0 {
		return command[0] + "." + f.Name
	}
	return f.Name
}

// setApart gives flags of a command settings of their own.
func setApart(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		_ = cmd.Flags().SetAnnotation(name, ownSetting, []string{cmd.Name()}) // it is there
	}
}

// allSettings are those of the flags of all commands: one file serves them all.
func allSettings() map[string]bool {
	a := new(app)
	names := make(map[string]bool)
	add := func(f *pflag.Flag) {
		name := settingOf(f)
		names[name] = names[name] || f.Name != "help" && f.Name != "config" && !f.Hidden
	}
	a.bareRoot().PersistentFlags().VisitAll(add)
	for _, command := range a.commands() {
		command().Flags().VisitAll(add)
	}
	return names
}

func ours(known map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(name string) bool { return !known[name] })
}

// readConfig reads the file into texts as they would stand on a command line; lists are several. With an error come those that
// could be read, for what goes by the record.
func readConfig(path string) (map[string][]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	var content any
	fault := yaml.UnmarshalStrict(b, &content)
	if fault != nil {
		fault = fmt.Errorf("the configuration %s cannot be read as YAML: %s", path, yamlFault(fault))
		if yaml.Unmarshal(b, &content) != nil {
			return nil, fault
		}
	}
	file, isMap := content.(map[string]any)
	if !isMap && content != nil {
		return nil, fmt.Errorf("the configuration %s is not a YAML map of settings, a line such as tap-owner: 107 for each", path)
	}
	values := make(map[string][]string)
	err = interfaceTexts(file)
	if failed := flatten(values, "", file); err == nil {
		err = failed
	}
	if fault == nil && err != nil {
		fault = fmt.Errorf("the configuration %s: %w", path, err)
	}
	return values, fault
}

// yamlFault is what is wrong with a file, in YAML's words alone: that it is read by way of JSON says nothing to who wrote it.
func yamlFault(err error) string {
	text := err.Error()
	for _, way := range []string{"error converting YAML to JSON: ", "yaml: ", "json: ", "unmarshal errors:"} {
		text = strings.TrimPrefix(text, way)
	}
	if strings.HasPrefix(text, "unsupported map key") || strings.Contains(text, "invalid map key") {
		return "a list or a map stands where the name of a setting should"
	}
	var faults []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			faults = append(faults, line)
		}
	}
	return strings.Join(faults, "; ")
}

// interfaceTexts makes of the list `interfaces`, in which each has the keys of --interface and its name, what that flag takes. The
// error is the first, and what is at fault is left out.
func interfaceTexts(file map[string]any) (fault error) {
	const list = "interfaces"
	value, there := file[list]
	if !there {
		return nil
	}
	delete(file, list)
	if _, both := file["interface"]; both {
		return errors.New("interface and interfaces exclude each other: keep one of them")
	}
	if value == allInterfaces {
		file["interface"] = value
		return nil
	}
	entries, ok := value.([]any)
	if !ok {
		return fmt.Errorf("%s takes a list, or %s", list, allInterfaces)
	}
	var texts []any
	fail := func(err error) {
		if fault == nil {
			fault = err
		}
	}
	for _, entry := range entries {
		keys, ok := entry.(map[string]any)
		if !ok {
			texts = append(texts, entry) // a name
			continue
		}
		name, _ := keys["name"].(string)
		text := name
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if key == "name" {
				continue
			}
			value, err := joined(list+": "+key, keys[key])
			if err != nil {
				fail(err)
				continue
			}
			text += "," + key + "=" + value
		}
		if name == "" {
			fail(fmt.Errorf("%s: an entry has no name (%s)", list, text))
			continue
		}
		texts = append(texts, text)
	}
	file["interface"] = texts
	return fault
}

// flatten makes hook: {timeout: 10s} what hook.timeout: 10s is. The error is the first, and what is at fault is left out.
func flatten(values map[string][]string, prefix string, from map[string]any) (fault error) {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		name, value := prefix+key, from[key]
		var err error
		switch v := value.(type) {
		case map[string]any:
			err = flatten(values, name+".", v)
		case []any:
			texts := make([]string, len(v))
			for i, e := range v {
				if texts[i], err = scalar(name, e); err != nil {
					break
				}
			}
			if err == nil {
				values[name] = texts
			}
		default:
			var text string
			if text, err = scalar(name, v); err == nil {
				values[name] = []string{text}
			}
		}
		if fault == nil {
			fault = err
		}
	}
	return fault
}

// joined is a value, or several with commas between them.
func joined(name string, value any) (string, error) {
	several, ok := value.([]any)
	if !ok {
		return scalar(name, value)
	}
	texts := make([]string, len(several))
	for i, one := range several {
		var err error
		if texts[i], err = scalar(name, one); err != nil {
			return "", err
		}
	}
	return strings.Join(texts, ","), nil
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
