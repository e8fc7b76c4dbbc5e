package logs

import (
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestLogsAreHarmless in either format.
func TestLogsAreHarmless(t *testing.T) {
	for format, want := range map[string]string{"console": `a\x1b[1m\nb\u009b`, "json": `a\u001b[1m\nb\u009b`} {
		var out strings.Builder
		log, err := New(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Warn("a\x1b[1m\nb\u009b\u202e", zap.String("name", "c\x1b\u009b\u202e"))
		text := out.String()
		if strings.ContainsAny(text, "\x1b\u009b\u202e") || strings.Count(text, "\n") != 1 || !strings.Contains(text, want) {
			t.Errorf("%s: %q", format, text)
		}
	}
}
