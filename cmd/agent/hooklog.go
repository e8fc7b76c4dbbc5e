package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// HookEntry is one call of the hook in its log: a line of JSON. libvirt shows nobody what a hook says.
type HookEntry struct {
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

func (e *HookEntry) finish(err error, started time.Time) {
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

// appendHookLog adds a line. A line is written at once, so that those of two calls do not mix.
func appendHookLog(dir string, e *HookEntry) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // it quotes XML
	if err := encoder.Encode(e); err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	f, err := openLog(dir, hookLog)
	if err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	_, err = f.Write(line.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the hook's log: %w", err)
	}
	return nil
}

// HookLog reads the log, oldest first. A line that cannot be read is left out.
func HookLog(dir string) ([]HookEntry, error) {
	text, err := readHookLog(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the hook's log: %w", err)
	}
	var entries []HookEntry
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, statedir.MaxLog)
	for lines.Scan() {
		var e HookEntry
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			entries = append(entries, e)
		}
	}
	if err := lines.Err(); err != nil {
		return entries, fmt.Errorf("read the hook's log: %w", err)
	}
	return entries, nil
}

func readHookLog(dir string) ([]byte, error) {
	d, err := statedir.Open(dir, statedir.Own)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Read(hookLog)
}

// DrawHookLog writes the log for people, one call a line, apart from what is above it.
func DrawHookLog(w io.Writer, entries []HookEntry) error {
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
		if _, err := fmt.Fprintf(w, "%s  %-8s %-9s %7.1f ms  %s\n", e.Time.Local().Format(time.DateTime), e.Guest, e.Operation, e.Milliseconds, text); err != nil {
			return err
		}
	}
	return nil
}
