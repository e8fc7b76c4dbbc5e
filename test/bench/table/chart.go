package main

import (
	"bytes"
	"fmt"
	"image/color"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// bar is a row of a chart: how many times the peer's figure podnic's is.
type bar struct {
	label       string
	ratio, goal float64 // 0 is no goal
	more        bool    // is better
}

// The colours on a light ground, each with that on a dark one. A picture has its own ground, since what shows it may not follow
// the reader's choice.
const (
	ground = "#FFFFFF"
	ink    = "#1F2328"
	faint  = "#59636E"
	less   = "#0969DA"
	over   = "#BC4C00"
)

var dark = [][2]string{{ground, "#0D1117"}, {ink, "#F0F6FC"}, {faint, "#9198A1"}, {less, "#4493F8"}, {over, "#DB6D28"}}

// bars are the rows of a table that have a peer; a row without a name goes on with that of the row above.
func (a area) bars(from results) (bars []bar) {
	var what string
	for _, r := range a.rows {
		if r.what != "" {
			what = r.what
		}
		value, ok := from.median(r.of)
		peer, both := from.median(r.peer)
		if !ok || !both || peer == 0 {
			continue
		}
		label := fmt.Sprintf("%s: %s, %s %s", what, r.of.text(value), r.words, r.peer.text(peer))
		bars = append(bars, bar{strings.ReplaceAll(label, "`", ""), value / peer, r.ratio, r.more()})
	}
	return bars
}

// more reports that the figure is better the larger it is.
func (r row) more() bool { return strings.HasSuffix(r.of.unit, "GiB/s") }

// chartName is the file of the table's chart.
func (a area) chartName() string {
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(a.title), "-")
	return strings.Trim(name, "-") + ".svg"
}

const (
	chartWidth vg.Length = 620 // points, as all lengths here
	rowHeight  vg.Length = 27
	textSize             = 10
)

// chart is the table as a picture (SVG); nil where nothing has a peer. The same figures give the same bytes.
func (a area) chart(from results) ([]byte, error) {
	bars := a.bars(from)
	if len(bars) == 0 {
		return nil, nil
	}
	p := plot.New()
	p.BackgroundColor = rgb(ground)
	p.HideY()
	p.Y.Min, p.Y.Max = 0, float64(len(bars))
	p.X.Min = 0
	p.X.Label.Text = "times what it is measured beside (the line at 1); a thin mark is a goal"
	p.X.Tick.Marker = plot.ConstantTicks(ticks(bars))
	p.X.Max = 1.5
	for _, b := range bars {
		p.X.Max = max(p.X.Max, b.ratio*1.02, b.goal*1.02)
	}
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: textSize}
	p.X.Tick.Label.Font, p.X.Label.TextStyle.Font = sans, sans
	p.X.Tick.Label.Color, p.X.Label.TextStyle.Color = rgb(faint), rgb(faint)
	p.X.Color, p.X.Tick.Color = rgb(faint), rgb(faint)
	p.Add(barsPlotter(bars))

	canvas := vgsvg.New(chartWidth, rowHeight*vg.Length(len(bars))+46)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	return forReaders(b.Bytes(), a.title), nil
}

// ticks are those of an axis that has room for a dozen.
func ticks(bars []bar) (ticks []plot.Tick) {
	longest := 1.5
	for _, b := range bars {
		longest = max(longest, b.ratio, b.goal)
	}
	step := 0.25
	for longest/step > 12 {
		step *= 2
	}
	for v := 0.0; v <= longest*1.02; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', -1, 64)})
	}
	return ticks
}

// barsPlotter draws each bar below its label, the first one at the top.
type barsPlotter []bar

func (bars barsPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := p.X.Tick.Label
	style.Color = rgb(ink)
	style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
	thickness := vg.Length(9)
	for i, b := range bars {
		foot := c.Max.Y - rowHeight*vg.Length(i+1) + 2
		fill := less
		if b.ratio > 1 != b.more {
			fill = over
		}
		label := b.label
		if b.more {
			label += " (more is better)"
		}
		c.FillPolygon(rgb(fill), []vg.Point{
			{X: x(0), Y: foot}, {X: x(b.ratio), Y: foot}, {X: x(b.ratio), Y: foot + thickness}, {X: x(0), Y: foot + thickness},
		})
		if b.goal > 0 {
			c.StrokeLine2(draw.LineStyle{Color: rgb(ink), Width: 1}, x(b.goal), foot-1, x(b.goal), foot+thickness+1)
		}
		c.FillText(style, vg.Point{X: x(0), Y: foot + thickness + 2}, label)
	}
	line := draw.LineStyle{Color: rgb(faint), Width: 1, Dashes: []vg.Length{3, 2}}
	c.StrokeLine2(line, x(1), c.Min.Y, x(1), c.Max.Y)
}

func rgb(hex string) color.Color {
	v, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		panic(err) // one of the constants above
	}
	return color.RGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
}

// forReaders gives the picture a name, fonts that readers have (of the same widths as those it was laid out with), and the
// colours of a dark ground. For these, colours become attributes, over which a style sheet has its way.
func forReaders(svg []byte, title string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<title>%s: podnic beside its peers</title>\n<style>\n@media (prefers-color-scheme: dark) {\n", escape(title))
	for _, c := range dark {
		for _, property := range []string{"fill", "stroke"} {
			fmt.Fprintf(&b, "[%s=\"%s\"] { %s: %s }\n", property, c[0], property, c[1])
		}
	}
	fmt.Fprint(&b, "}\n</style>\n<g ")
	svg = bytes.Replace(svg, []byte("<g "), []byte(b.String()), 1)
	text := styles.ReplaceAllStringFunc(string(svg), func(style string) string {
		style = fonts.ReplaceAllString(style, "font-family:Liberation Sans,Arial,Helvetica,sans-serif")
		var attributes string
		for _, c := range colours.FindAllStringSubmatch(style, -1) {
			attributes += fmt.Sprintf(` %s="%s"`, c[1], c[2])
		}
		return strings.Replace(colours.ReplaceAllString(style, ""), `;"`, `"`, 1) + attributes
	})
	return []byte(strings.ReplaceAll(text, `style="" `, ""))
}

var (
	styles  = regexp.MustCompile(`style="[^"]*"`)
	fonts   = regexp.MustCompile(`font-family:[^;"]*`)
	colours = regexp.MustCompile(`(fill|stroke):([^;"]*);?`)
)

func escape(text string) string { return strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(text) }
