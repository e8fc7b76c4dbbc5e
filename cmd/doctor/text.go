package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/draw"
)

// same reports whether two findings are one of which it is enough to say it once.
func same(a, b Finding) bool {
	a.Check, a.Interface = b.Check, b.Interface
	return a == b && a.Status == Unknown
}

// Text writes the findings, one below the other, with the remedy where there is something to mend.
func (r *Report) Text(w io.Writer) error {
	name := 0
	for _, f := range r.Findings {
		name = max(name, len(f.Check))
	}
	var b strings.Builder
	count := make(map[Status]int)
	for i, f := range r.Findings {
		count[f.Status]++
		if i > 0 && same(f, r.Findings[i-1]) {
			continue // said with the first of them
		}
		var too []string
		for j := i + 1; j < len(r.Findings) && same(f, r.Findings[j]); j++ {
			if check := r.Findings[j].Check; check != f.Check && !slices.Contains(too, check) {
				too = append(too, check)
			}
		}
		if len(too) > 0 {
			f.Reason += "; so too for " + strings.Join(too, ", ")
		}
		if f.Interface != "" && !strings.HasPrefix(f.Reason, f.Interface+" ") {
			f.Reason = f.Interface + ": " + f.Reason
		}
		begin := fmt.Sprintf("%-7s  %-*s  ", f.Status, name, f.Check)
		write := func(begin, text string) {
			for _, line := range draw.Wrap(begin, text) {
				b.WriteString(line + "\n")
			}
		}
		write(begin, f.Reason)
		if f.Remedy != "" {
			write(strings.Repeat(" ", len(begin))+"→ ", f.Remedy)
		}
	}
	var sum []string
	for _, s := range []Status{OK, Warn, Fail, Unknown} {
		if count[s] > 0 {
			sum = append(sum, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	fmt.Fprintf(&b, "%s\n", strings.Join(sum, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}
