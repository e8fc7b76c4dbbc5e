package main

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// All in pixels. A character of a font of equal widths is about six tenths of its height wide.
const (
	size, pitch = 14, 18
	character   = 8.5
	margin      = 14
)

// rest is how long the picture shows the end before it begins anew.
const rest = 6 * time.Second

// draw makes an animated picture of a recording. Whoever does not show animations, or does not want them, sees the end.
func draw(recording []byte) ([]byte, error) {
	c, err := decode(recording)
	if err != nil {
		return nil, err
	}
	lines, length, err := c.lines()
	if err != nil {
		return nil, err
	}
	all := length + rest
	var b, moves, texts strings.Builder
	width, height := columns*character+2*margin, rows*pitch+2*margin
	percent := func(at time.Duration) string { return fmt.Sprintf("%.2f%%", 100*float64(at)/float64(all)) }
	fmt.Fprint(&moves, "@keyframes scroll { 0% { transform: translateY(0) }")
	for i, l := range lines {
		if i >= rows && (i+1 == len(lines) || lines[i+1].at > l.at) {
			fmt.Fprintf(&moves, " %s { transform: translateY(%dpx) }", percent(l.at), -(i-rows+1)*pitch)
		}
		if len(l.spans) == 0 {
			continue
		}
		fmt.Fprintf(&b, "@keyframes l%d { 0%% { visibility: hidden } %s { visibility: visible } }\n", i, percent(l.at))
		fmt.Fprintf(&texts, `<text y="%d" style="animation-name:l%d">`, i*pitch+size, i)
		column := 0
		for _, s := range l.spans {
			class := ""
			switch {
			case s.bold:
				class = ` class="b"`
			case s.faint:
				class = ` class="f"`
			}
			// Each at its column: a font may lack a character, and the next one has another width.
			fmt.Fprintf(&texts, `<tspan x="%.1f"%s>%s</tspan>`, float64(column)*character, class, escape(s.text))
			column += utf8.RuneCountInString(s.text)
		}
		fmt.Fprint(&texts, "</text>\n")
	}
	end := max(0, len(lines)-rows) * pitch
	var picture strings.Builder
	fmt.Fprintf(&picture, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" role="img">
<title>make demo, at a terminal</title>
<style>
text { font: %dpx ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; fill: #e6edf3 }
.b { font-weight: bold; fill: #ffffff }
.f { fill: #9198a1 }
text, #all { animation: %.1fs step-end infinite }
#all { animation-name: scroll }
%s }
%s@media (prefers-reduced-motion: reduce) { text, #all { animation: none } }
</style>
<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>
<svg x="%d" y="%d" width="%.0f" height="%d">
<g id="all" transform="translate(0 -%d)" xml:space="preserve">
%s</g>
</svg>
</svg>
`, width, height, width, height, size, all.Seconds(), moves.String(), b.String(), margin, margin,
		columns*character, rows*pitch, end, texts.String())
	return []byte(picture.String()), nil
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // into memory
	return b.String()
}
