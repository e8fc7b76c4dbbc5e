package pod

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lifetimeTolerance is how far the end of an address's or route's life may move between two states that count as the same.
const lifetimeTolerance = 2 * time.Second

// State is everything that makes up a namespace's network, as text: links with all their settings, addresses in order,
// routes of every table, rules, nexthop objects, permanent neighbours, queueing disciplines, the firewall, and the
// settings under /proc/sys/net that belong to a link. Two namespaces with the same State are "as before" for every
// program in them.
//
// What the kernel changes by itself is left out: counters, timers, the order of routes that it made.
type State struct {
	Text string
	// At is when the state was taken. Lifetimes in Text are seconds from then.
	At time.Time
}

// sections are the programs whose output makes a State.
var sections = []struct {
	command string
	tidy    func(string) string
}{
	{"ip -d -o link show", dropTimers},
	{"ip -d -o address show", nil},
	{"ip -d -o -4 route show table all", sortKernelRoutes},
	{"ip -d -o -6 route show table all", sortKernelRoutes},
	{"ip -d -o -4 rule show", nil},
	{"ip -d -o -6 rule show", nil},
	{"ip -d -o nexthop show", nil},
	{"ip -d -o neighbour show nud permanent", nil},
	{"ip -d -o neighbour show proxy", nil},
	{"tc -d qdisc show", dropReferences},
	{"nft --stateless list ruleset", nil},
}

// State reads the namespace once it has settled. Nothing should change it meanwhile.
func (n *Namespace) State(ctx context.Context) (State, error) {
	if err := n.Settle(ctx); err != nil {
		return State{}, err
	}
	var text strings.Builder
	state := State{At: time.Now()}
	for _, s := range sections {
		args := strings.Fields(s.command)
		began := time.Since(state.At)
		out, err := n.Output(ctx, args[0], args[1:]...)
		if err != nil {
			return State{}, err
		}
		out = earlier(out, (began+time.Since(state.At))/2)
		if s.tidy != nil {
			out = s.tidy(out)
		}
		fmt.Fprintf(&text, "# %s\n%s", s.command, trimLines(out))
	}
	settings, err := n.linkSettings()
	if err != nil {
		return State{}, err
	}
	text.WriteString("# settings of links\n" + settings)
	state.Text = text.String()
	return state, nil
}

// Diff is empty when the other state, taken later, is the same; else it shows what differs, line by line.
func (s State) Diff(later State) string {
	return cmp.Diff(strings.Split(s.Text, "\n"), strings.Split(s.align(later), "\n"))
}

// lifetime finds what counts down in the output of ip: "valid_lft 86399sec", "expires 1799sec".
var lifetime = regexp.MustCompile(`\b(valid_lft|preferred_lft|expires) (\d+)sec`)

// align is the text of the later state with each lifetime replaced by that of s, where both end at the same time within
// the tolerance. Lifetimes are matched by their order, so they only align in texts that agree on everything else.
func (s State) align(later State) string {
	mine := lifetime.FindAllStringSubmatch(s.Text, -1)
	i := -1
	return lifetime.ReplaceAllStringFunc(later.Text, func(theirs string) string {
		if i++; i >= len(mine) {
			return theirs
		}
		drift := end(later.At, lifetime.FindStringSubmatch(theirs)).Sub(end(s.At, mine[i]))
		if drift.Abs() > lifetimeTolerance {
			return fmt.Sprintf("%s (ends %v off)", theirs, drift.Round(time.Second))
		}
		return mine[i][0]
	})
}

// earlier has lifetimes count from so long before they were read: on a busy machine each program takes its time.
func earlier(out string, by time.Duration) string {
	seconds := int64(by.Round(time.Second).Seconds())
	return lifetime.ReplaceAllStringFunc(out, func(text string) string {
		match := lifetime.FindStringSubmatch(text)
		left, err := strconv.ParseInt(match[2], 10, 64)
		if err != nil {
			return text // too many digits for a lifetime
		}
		return fmt.Sprintf("%s %dsec", match[1], left+seconds)
	})
}

func end(from time.Time, match []string) time.Time {
	seconds, err := strconv.ParseInt(match[2], 10, 64)
	if err != nil {
		return from // too many digits for a lifetime
	}
	return from.Add(time.Duration(seconds) * time.Second)
}

// timers are the running timers of a bridge and of its ports.
var timers = regexp.MustCompile(`\b(hello_timer|tcn_timer|topology_change_timer|gc_timer|message_age_timer|forward_delay_timer|hold_timer) +[\d.]+ `)

func dropTimers(out string) string { return timers.ReplaceAllString(out, "") }

// references is how often the kernel points at a queueing discipline.
var references = regexp.MustCompile(` refcnt \d+`)

func dropReferences(out string) string { return references.ReplaceAllString(out, "") }

// sortKernelRoutes puts the routes that the kernel makes for addresses behind the others, sorted: their order follows the
// history of the links and not what anybody asked for. The order of all others is kept.
func sortKernelRoutes(out string) string {
	var asked, made []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, " proto kernel ") {
			made = append(made, line)
		} else {
			asked = append(asked, line)
		}
	}
	slices.Sort(made)
	return strings.Join(asked, "") + strings.Join(made, "")
}

// trimLines removes the blanks that ip leaves at the end of lines.
func trimLines(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

// linkSettings are the values under /proc/sys/net that belong to links, as name=value lines. What cannot be read (a
// secret that is not set) is left out.
func (n *Namespace) linkSettings() (string, error) {
	var b strings.Builder
	err := n.Do(func() error {
		for _, pattern := range []string{"ipv4/conf/*/*", "ipv4/neigh/*/*", "ipv6/conf/*/*", "ipv6/neigh/*/*"} {
			files, err := filepath.Glob("/proc/sys/net/" + pattern)
			if err != nil {
				return err
			}
			for _, file := range files {
				value, err := os.ReadFile(file)
				if err == nil {
					fmt.Fprintf(&b, "%s=%s\n", strings.TrimPrefix(file, "/proc/sys/net/"), strings.TrimSpace(string(value)))
				}
			}
		}
		return nil
	})
	return b.String(), err
}
