package draw

import (
	"fmt"
	"io"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
)

// Control sequences (ECMA-48, 8.3): the cursor to the upper left, and to erase the rest of a line and of the screen.
const (
	home      = "\x1b[H"
	eraseLine = "\x1b[K"
	eraseRest = "\x1b[J"
)

// Screen draws again and again: on a terminal in place of what it drew before, else one drawing after the other.
type Screen struct {
	// Terminal says that control sequences are understood, Color that colours are wanted.
	Terminal, Color bool
	// Rows is how many lines the terminal has now; 0 is not known. It may be nil.
	Rows func() int

	drawn bool
	last  string
}

// Show draws an inspection, or why it failed.
func (s *Screen) Show(w io.Writer, v status.View, failed error) error {
	var drawing []string
	if failed != nil {
		drawing = Wrap(mark, failed.Error())
	} else {
		drawing = lines(v, s.Color)
	}
	text := strings.Join(drawing, "\n") + "\n"
	switch {
	case s.Terminal:
		text = s.place(drawing)
	case text == s.last:
		return nil
	default:
		s.last = text
		if s.drawn {
			text = "\n" + text
		}
	}
	s.drawn = true
	_, err := io.WriteString(w, text)
	return err
}

// place puts a drawing in the place of the one before. What the screen has no room for is left out: a screen that scrolls
// could not be drawn upon again.
func (s *Screen) place(drawing []string) string {
	if rows := s.rows(); rows > 1 && len(drawing) >= rows {
		left := len(drawing) - (rows - 2)
		drawing = append(drawing[:rows-2:rows-2], fmt.Sprintf("… %d more lines", left))
	}
	return home + strings.Join(drawing, eraseLine+"\n") + eraseLine + "\n" + eraseRest
}

func (s *Screen) rows() int {
	if s.Rows == nil {
		return 0
	}
	return s.Rows()
}
