// Package leftover tells what a suite has left behind on a node from looks at it, each a text with a line for each thing.
package leftover

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Wait looks until there is no more than before, or until eventually, which calls what it is given again and again, gives up.
// Then the error has what is there too much by the last look that succeeded, since what ends late is no leftover, and a look
// that fails has seen nothing. What has gone meanwhile is nothing that was left.
func Wait(ctx context.Context, before string, look func(context.Context) (string, error),
	eventually func(context.Context, func(context.Context) (bool, error)) error) error {
	var left []string
	var failed error // why the last look has
	looked := false
	err := eventually(ctx, func(ctx context.Context) (bool, error) {
		var now string
		if now, failed = look(ctx); failed != nil {
			return false, nil
		}
		looked, left = true, more(before, now)
		return len(left) == 0, nil
	})
	switch {
	case err == nil:
		return nil
	case !looked:
		return fmt.Errorf("the node was never seen again: %w", failed)
	case len(left) == 0:
		return err
	case failed != nil:
		return fmt.Errorf("on the node, when it was last seen:\n%s\nand later looks failed: %w", strings.Join(left, "\n"), failed)
	}
	return fmt.Errorf("on the node:\n%s", strings.Join(left, "\n"))
}

// more is the lines of now without as many of each as were there before.
func more(before, now string) []string {
	there := strings.Split(strings.TrimSpace(before), "\n")
	var left []string
	for _, line := range strings.Split(strings.TrimSpace(now), "\n") {
		if i := slices.Index(there, line); i >= 0 {
			there = slices.Delete(there, i, i+1)
		} else if line != "" {
			left = append(left, line)
		}
	}
	return left
}
