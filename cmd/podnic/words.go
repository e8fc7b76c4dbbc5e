package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// inWords says what a flag takes whose value, or whose name, cannot be read. pflag says what Go's parser did not like.
func inWords(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return badValue(bad.GetFlag(), bad.GetValue())
	}
	if lacking, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value", lacking.GetFlag().Name)
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if unknown.GetSpecifiedShortnames() != "" {
			return fmt.Errorf("there is no flag -%s; '%s --help' lists the flags", unknown.GetSpecifiedName(), cmd.CommandPath())
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		return fmt.Errorf("there is no flag --%s%s; '%s --help' lists the flags", unknown.GetSpecifiedName(), didYouMean("--", unknown.GetSpecifiedName(), names), cmd.CommandPath())
	}
	return fmt.Errorf("%w; '%s --help' lists the flags", err, cmd.CommandPath())
}

func badValue(f *pflag.Flag, value string) error {
	switch f.Value.Type() {
	case "int", "int64":
		return fmt.Errorf("--%s takes a whole number, not %q", f.Name, value)
	case "bool":
		return fmt.Errorf("--%s takes true or false, not %q", f.Name, value)
	case "duration":
		if _, failed := strconv.ParseFloat(value, 64); failed == nil {
			return fmt.Errorf("--%s takes a duration with its unit, not %q: write %ss (units: ms, s, m, h)", f.Name, value, value)
		}
		return fmt.Errorf("--%s takes a duration such as 500ms, 10s or 1m30s, not %q", f.Name, value)
	case "stringSlice":
		return fmt.Errorf("--%s takes values with commas between them, not %q: a quote stands at the beginning and at the end of a value, or nowhere", f.Name, value)
	}
	return fmt.Errorf("--%s cannot be %q", f.Name, value)
}

// noNegatives refuses a duration below zero: none of the flags means anything by one.
func noNegatives(set *pflag.FlagSet) (err error) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() != "duration" || err != nil {
			return
		}
		if d, failed := time.ParseDuration(f.Value.String()); failed == nil && d < 0 {
			err = fmt.Errorf("--%s must not be negative, got %v", f.Name, d)
		}
	})
	return err
}

// didYouMean is a question with the name that is most like what was given; empty where none is.
func didYouMean(prefix, given string, names []string) string {
	best, distance := "", max(2, len(given)/4)+1
	for _, name := range names {
		if d := editDistance(given, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", prefix, best)
}

// editDistance is that of Levenshtein, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// unknownVariables are those of the environment that look like settings but belong to no command, as a line
// each, with the one that may be meant. Kubernetes gives containers variables of each Service, also of one that is called podnic, and `run` gives its command some.
func unknownVariables(cmd *cobra.Command) []string {
	var strangers []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, variablePrefix) {
			strangers = append(strangers, name)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	known := make(map[string]bool)
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known[variableOf(settingOf(f))] = true })
	isKnown := func(name string) bool { return known[name] || isNoSetting(name) }
	if strangers = slices.DeleteFunc(strangers, isKnown); len(strangers) == 0 {
		return nil // the other commands' flags need not be made
	}
	for name, ours := range allSettings() {
		if ours {
			known[variableOf(name)] = true
		}
	}
	strangers = slices.DeleteFunc(strangers, isKnown)
	names := slices.Sorted(maps.Keys(known))
	for i, name := range strangers {
		strangers[i] = name + " in the environment is no setting of podnic's" + didYouMean("", name, names)
	}
	return strangers
}

// isNoSetting reports whether a variable is known to be something else: of a Service, of run for its command, or of the project's
// Makefile and tests.
func isNoSetting(name string) bool {
	if strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") || strings.HasSuffix(name, "_PORT") ||
		strings.Contains(name, "_PORT_") {
		return true
	}
	switch strings.TrimRight(strings.TrimPrefix(name, variablePrefix), "_0123456789") {
	case "TAP", "TAP_FD", "MAC", "MTU", "QUEUES", "INTERFACE", "INTERFACES", "CACHE", "UNIT", "SOAK", "MOMENT", "EARLIER", "NAME", "PROGRAMS":
		return true
	}
	return strings.HasPrefix(name, variablePrefix+"TEST_")
}

const variablePrefix = "PODNIC_"

// variableOf is the environment variable of a setting.
func variableOf(setting string) string {
	return variablePrefix + strings.Map(func(r rune) rune {
		if r == '-' || r == '.' {
			return '_'
		}
		return unicode.ToUpper(r)
	}, setting)
}
