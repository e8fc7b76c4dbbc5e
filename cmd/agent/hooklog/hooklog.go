// Package hooklog is the log of what libvirt called the hook for, and what came of it. The hook writes it, and
// `podnic status --log` reads it.
package hooklog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// Entry is one call of the hook in its log: a line of JSON. libvirt shows nobody what a hook says.
type Entry struct {
	Time         time.Time `json:"time"` // of the end
	Guest        string    `json:"guest"`
	UUID         string    `json:"uuid,omitempty"`
	Operation    string    `json:"operation"`
	SubOperation string    `json:"subOperation"`
	// Reason is why the guest ended, of release, from libvirt 10.5 on.
	Reason string `json:"reason,omitempty"`
	// Outcome is done, refused (nothing was touched) or failed.
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
	// Did is what was done, none if everything was as it should be.
	Did      []string `json:"did,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Milliseconds from the start of the program.
	Milliseconds float64 `json:"milliseconds"`
}

// Finish adds how the call ended, and when. started is when the program was.
func (e *Entry) Finish(err error, started time.Time) {
	now := time.Now()
	e.Time, e.Milliseconds = now.UTC(), float64(now.Sub(started).Microseconds())/1000
	switch {
	case err == nil:
		e.Outcome = "done"
	case network.IsRefusal(err):
		e.Outcome, e.Error = "refused", err.Error()
	default:
		e.Outcome, e.Error = "failed", err.Error()
	}
}

const hookLog = "hook.log"

// Append adds a line. A line is written at once, so that those of two calls do not mix.
func Append(dir string, e *Entry) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // it quotes XML
	e.bound()
	if err := encoder.Encode(e); err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	f, err := logs.Open(dir, hookLog)
	if err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	_, err = f.Write(line.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	return nil
}

// Read reads the log, oldest first. A line that cannot be read is left out.
func Read(dir string) ([]Entry, error) {
	text, err := readHookLog(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the hook's log: %w", err)
	}
	var entries []Entry
	lines := bufio.NewReader(bytes.NewReader(text))
	for {
		line, left, err := readLine(lines)
		if e, ok := parseHookEntry(line, left); ok {
			entries = append(entries, e)
		}
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return entries, fmt.Errorf("read the hook's log: %w", err)
		}
	}
}

// Bounds of a line. A domain's XML, which errors quote, may be as long as its author likes. What is written stays far
// below what is read, even where each byte takes six in JSON.
const (
	maxHookText = 2 << 10 // bytes of one text
	maxHookList = 16      // texts of one kind
	maxHookLine = 1 << 20 // bytes of a line that are read
)

// bound shortens what is too long for a line of the log, and says so.
func (e *Entry) bound() {
	for _, text := range []*string{&e.Guest, &e.UUID, &e.Operation, &e.SubOperation, &e.Reason, &e.Error} {
		*text = shortened(*text)
	}
	for _, list := range []*[]string{&e.Did, &e.Warnings} {
		texts := slices.Clone((*list)[:min(len(*list), maxHookList)])
		for i := range texts {
			texts[i] = shortened(texts[i])
		}
		if over := len(*list) - len(texts); over > 0 {
			texts = append(texts, fmt.Sprintf("(%d more)", over))
		}
		*list = texts
	}
}

func shortened(text string) string {
	if len(text) <= maxHookText {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes more)", strings.ToValidUTF8(text[:maxHookText], ""), len(text)-maxHookText)
}

// readLine reads a line and keeps its beginning. left is how much of it is not kept.
func readLine(r *bufio.Reader) (line []byte, left int, err error) {
	for {
		part, err := r.ReadSlice('\n')
		keep := min(len(part), maxHookLine-len(line))
		line = append(line, part[:keep]...)
		left += len(part) - keep
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, left, err
		}
	}
}

// parseHookEntry reads a line, or of one that is not whole the fields that are.
func parseHookEntry(line []byte, left int) (e Entry, ok bool) {
	if left == 0 {
		return e, json.Unmarshal(line, &e) == nil
	}
	fields := make(map[string]json.RawMessage)
	d := json.NewDecoder(bytes.NewReader(line))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return e, false
	}
	for {
		key, err := d.Token()
		name, isText := key.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil {
			break
		}
		fields[name] = value
	}
	whole, err := json.Marshal(fields)
	if err != nil || json.Unmarshal(whole, &e) != nil {
		return e, false
	}
	e.Warnings = append(e.Warnings, fmt.Sprintf("the line of the log is too long, and %d bytes of it were not read", left))
	e.bound()
	return e, true
}

func readHookLog(dir string) ([]byte, error) {
	d, err := statedir.Open(dir, statedir.Own)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Read(hookLog)
}

// Draw writes the log for people, one call a line, apart from what is above it.
func Draw(w io.Writer, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	for _, e := range entries {
		text := e.Outcome
		switch {
		case e.Error != "":
			text += ": " + e.Error
		case len(e.Did) > 0:
			text = strings.Join(e.Did, "; ")
		}
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		if len(e.Warnings) > 0 {
			text += "; warning: " + strings.Join(e.Warnings, "; ")
		}
		line := fmt.Sprintf("%s  %-8s %-9s %7.1f ms  %s", e.Time.Local().Format(time.DateTime), e.Guest, e.Operation, e.Milliseconds, text)
		if _, err := fmt.Fprintln(w, printable.Line(line)); err != nil {
			return err
		}
	}
	return nil
}
