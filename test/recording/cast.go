package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// cast is a recording: what was written when, since the beginning.
type cast struct{ events []event }

type event struct {
	at   time.Duration
	text string
}

// header is the first line of an asciicast of version 2 (https://docs.asciinema.org/manual/asciicast/v2/).
type header struct {
	Version       int     `json:"version"`
	Width         int     `json:"width"`
	Height        int     `json:"height"`
	IdleTimeLimit float64 `json:"idle_time_limit"`
	Title         string  `json:"title"`
}

// idle is how long a pause is at most when the recording is shown, read how long it is at least from one heading to the next.
const idle, read = 2 * time.Second, 3 * time.Second

func (c *cast) encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	// Neither can fail: these are strings and numbers.
	_ = e.Encode(header{2, columns, rows, idle.Seconds(), "make demo"})
	for _, event := range c.events {
		_ = e.Encode([]any{float64(event.at.Milliseconds()) / 1000, "o", event.text})
	}
	return b.Bytes()
}

func decode(b []byte) (*cast, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	var h header
	if err := d.Decode(&h); err != nil || h.Version != 2 || h.Width != columns || h.Height != rows {
		return nil, fmt.Errorf("not an asciicast of version 2 with %d columns and %d rows: %+v, %w", columns, rows, h, err)
	}
	c := &cast{}
	for d.More() {
		var raw [3]any
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		at, isTime := raw[0].(float64)
		text, isText := raw[2].(string)
		if !isTime || !isText || raw[1] != "o" {
			return nil, fmt.Errorf("not output: %v", raw)
		}
		c.events = append(c.events, event{time.Duration(at * float64(time.Second)), text})
	}
	return c, nil
}

// cutPartial cuts off the bytes at the end that begin a character.
func cutPartial(text string) (whole, partial string) {
	for i := len(text) - 1; i >= 0 && i >= len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				return text[:i], text[i:]
			}
			break
		}
	}
	return text, ""
}

// line is one of what was written.
type line struct {
	at    time.Duration // since the beginning, with shortened pauses
	spans []span
}

// span is text of one look.
type span struct {
	text        string
	bold, faint bool
}

// lines are what is on the terminal in the end, and how long it all took.
func (c *cast) lines() (lines []line, length time.Duration, err error) {
	var look span
	var last, heading time.Duration
	current := line{at: -1}
	for _, e := range c.events {
		length += min(e.at-last, idle)
		last = e.at
		for text := e.text; text != ""; {
			if rest, ok := strings.CutPrefix(text, "\r\n"); ok {
				if current.at < 0 {
					current.at = length
				}
				lines = append(lines, current)
				current, text = line{at: -1}, rest
				continue
			}
			if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
				code, rest, _ := strings.Cut(rest, "m")
				switch code {
				case "0":
					look.bold, look.faint = false, false
				case "1":
					look.bold = true
				case "2":
					look.faint = true
				default:
					return nil, 0, fmt.Errorf("%.20q is nothing that a picture can show", text)
				}
				text = rest
				continue
			}
			end := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
			if end == 0 {
				return nil, 0, fmt.Errorf("%.20q is nothing that a picture can show", text)
			}
			if end < 0 {
				end = len(text)
			}
			if current.at < 0 {
				if look.bold {
					if heading > 0 {
						length = max(length, heading+read)
					}
					heading = length
				}
				current.at = length
			}
			look.text, text = text[:end], text[end:]
			if n := len(current.spans); n > 0 && current.spans[n-1].bold == look.bold && current.spans[n-1].faint == look.faint {
				current.spans[n-1].text += look.text
			} else {
				current.spans = append(current.spans, look)
			}
		}
	}
	if current.at >= 0 {
		lines = append(lines, current)
	}
	return lines, length, nil
}
