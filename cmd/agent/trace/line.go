package trace

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/podnic/podnic/cmd/printable"
	dhcptrace "github.com/podnic/podnic/dhcp/trace"
)

// Line is one frame in one line of at most so many columns. What does not fit is cut at the end, where the least
// important is.
func Line(f Frame, width int) string {
	arrow := "←"
	if f.FromGuest {
		arrow = "→"
	}
	peer := f.Peer
	at := f.At.Local().Format("15:04:05.000000")
	if f.named {
		at += fmt.Sprintf("  %-5s", f.Interface)
	}
	line := fmt.Sprintf("%s  guest %s %-7s  %-4s ", at, arrow, peer, f.Protocol)
	message := f.Message
	if f.Transaction != "" {
		message += " " + f.Transaction
	}
	if f.State != "" {
		message += " (" + f.State + ")"
	}
	parts := []string{message}
	if f.VLAN != 0 {
		parts = append(parts, fmt.Sprintf("VLAN %d", f.VLAN))
	}
	if f.Answer == "" && f.Why != "" { // an answer gives the reason itself, in the next line
		parts = append(parts, reason(f.Traced))
	}
	for i, d := range f.Details {
		text := strings.TrimSpace(d.Name + " " + d.Value)
		if i == 0 && f.Protocol == dhcptrace.ProtocolND {
			parts[0] += " " + text
			continue
		}
		parts = append(parts, text)
	}
	return cut(printable.Line(line+strings.Join(parts, ", ")), width)
}

// cut shortens a text to so many characters.
func cut(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	return string(runes[:width-1]) + "…"
}

// reason is why a frame is not answered, or refused; empty where there is nothing to say.
func reason(f dhcptrace.Traced) string {
	switch {
	case f.Why == "":
		return ""
	case f.Answer != "":
		return f.Answer + " because " + f.Why
	case f.FromGuest && f.Protocol != dhcptrace.ProtocolARP:
		return "not answered: " + f.Why
	}
	return f.Why
}

// String is the last line of a trace.
func (s Summary) String() string {
	var kinds []string
	for _, protocol := range []string{dhcptrace.ProtocolDHCP, dhcptrace.ProtocolARP, dhcptrace.ProtocolND, dhcptrace.ProtocolDHCPv6} {
		if n := s.Frames[protocol]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, protocol))
		}
	}
	text := fmt.Sprintf("%d frames in %.1f s", s.Total, s.Took.Seconds())
	if len(kinds) > 0 {
		text += " (" + strings.Join(kinds, ", ") + ")"
	}
	if s.Unanswered > 0 {
		text += fmt.Sprintf(", %d unanswered", s.Unanswered)
	}
	if s.Lost > 0 {
		text += fmt.Sprintf(", %d frames were lost: they came faster than they could be read", s.Lost)
	}
	return text + "; " + s.Ended
}
