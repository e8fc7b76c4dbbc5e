package look

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// What a terminal does something at: a title, a colour, control characters of both sets, the direction of writing, and a
// byte that is no UTF-8.
const hostile = "\x1b]0;h\a\u009b1m\u202e\x7f\x90"

// hostileLink is one that is short enough for the name of a link.
const hostileLink = "x\x1b[7m\u009b1m\x7f\x90"

// harmless checks that an output has nothing in it at which a terminal does something, and what of the hostile text it tells.
func (s *site) harmless(what, output string, tells ...string) {
	s.T.Helper()
	if !utf8.ValidString(output) {
		s.T.Errorf("%s is no UTF-8: %+q", what, output)
	}
	for _, line := range strings.Split(output, "\n") {
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsGraphic(r) }); i >= 0 {
			s.T.Errorf("%s has %+q", what, line[i:])
		}
	}
	for _, text := range tells {
		if !strings.Contains(output, text) {
			s.T.Errorf("%s does not tell %s:\n%s", what, text, output)
		}
	}
}

// TestNobodyElseWritesToTheTerminal has links, a domain, calls of the hook and a guest called what a terminal acts upon, and
// looks at all that podnic prints about them.
func TestNobodyElseWritesToTheTerminal(t *testing.T) {
	s := newSite(t, pod.Plain)
	logs := filepath.Join(s.StateDir, ".podnic")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	entry, err := json.Marshal(map[string]any{
		"guest": hostile, "operation": hostile, "outcome": "failed", "error": hostile + "\nand a line", "reason": hostile, "warnings": []string{hostile},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(logs, "hook.log"), append(entry, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	const escaped, escapedJSON = `\x1b]0;h\a\u009b1m\u202e\x7f`, `\u001b]0;h\u0007\u009b1m\u202e\u007f`
	const link, linkJSON = `x\x1b[7m\u009b1m\x7f\x90`, `x\u001b[7m\u009b1m\u007f`

	// An error lists the links, and a refusal names one.
	s.In(s.Pod.Namespace, "ip link add '"+hostileLink+"' type bridge")
	for _, args := range [][]string{
		{"prepare", "--interface", "nowhere"}, {"prepare", "--interface", "nowhere", "-o", "json"},
		{"prepare", "--tap", hostileLink}, {"prepare", "--interface", hostileLink}, {"prepare", "--socket", hostile}, {hostile}, {"--" + hostile},
		{"status", "--interface", hostileLink}, {"trace", "--interface", hostileLink}, {"doctor", "--interface", hostileLink},
		{"doctor", "--interface", hostileLink, "-o", "json"}, {"doctor", "--only", hostile},
	} {
		out, errs, status := s.Run(args...)
		if status == 0 && args[0] != "status" { // which shows that link
			t.Errorf("podnic %+q succeeded", args)
		}
		s.harmless(fmt.Sprintf("podnic %+q", args), out+errs, "x")
	}
	_, errs, _ := s.Run("prepare", "--interface", "nowhere")
	s.harmless("the list of links", errs, link)
	s.In(s.Pod.Namespace, "ip link delete '"+hostileLink+"'")

	// A wiring with a link that was renamed, for a domain of such a name, and with a guest that says such things.
	s.serve()
	record := filepath.Join(s.StateDir, "eth0", "record.json")
	b, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := json.Unmarshal(b, &content); err != nil {
		t.Fatal(err)
	}
	content["domain"] = map[string]string{"name": hostile}
	if b, err = json.Marshal(content); err == nil {
		err = os.WriteFile(record, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for format, tells := range map[string][]string{"text": {`hostname`, "vendor class", `\x1b]0;h`}, "json": {"hostname", "vendor class", `\x1b]0;h`}} {
		trace := s.Pod.Command(t.Context(), s.Podnic, "trace", "--state-dir", s.StateDir, "-o", format, "--count", "8", "--log-format", "console")
		done := make(chan [2]string)
		started := make(chan struct{})
		go func() {
			close(started)
			out, errs, _ := podtest.Run(s.T, trace)
			done <- [2]string{out, errs}
		}()
		<-started
		asking := true
		for asking { // until the trace listens, nobody sees what the guest says
			s.In(s.guest, fmt.Sprintf("busybox udhcpc -f -q -n -t 1 -T 1 -i eth0 -s /bin/true -x 0x0c:%x -x 0x3d:00%x -V '%s' 2>/dev/null || true", hostile, hostile, hostile))
			select {
			case said := <-done:
				s.harmless("trace -o "+format, said[0]+said[1], tells...)
				asking = false
			default:
			}
		}
	}
	s.In(s.Pod.Namespace, "ip link set tap0 down; ip link set tap0 name '"+hostileLink+"'")
	s.harmless("status", s.Must("status"), link)
	s.harmless("status --log", s.Must("status", "--log"), link, escaped, `\nand a line`)
	s.harmless("status -o dot", s.Must("status", "-o", "dot"), strings.ReplaceAll(link, `\`, `\\`))
	out := s.Must("status", "-o", "json", "--log")
	s.harmless("status -o json", out, linkJSON, escapedJSON)
	var report struct {
		Log []struct{ Error string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Log) != 1 || report.Log[0].Error != strings.ToValidUTF8(hostile, "\ufffd")+"\nand a line" {
		t.Errorf("JSON does not say what was said: %v, %+q", err, report)
	}
	doctor, errs, _ := s.Run("doctor", "--connect-timeout", "1ms")
	s.harmless("doctor", doctor+errs)
	s.unplug()
	for _, args := range [][]string{{"prepare", "--dry-run"}, {"prepare"}, {"restore"}} {
		out, errs, _ := s.Run(args...)
		s.harmless(strings.Join(args, " "), out+errs)
	}
}
