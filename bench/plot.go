package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Plot draws the latencies of rows as a PNG: how long the share of requests on the axis below took at most, a line for each
// run. Runs of one row have one colour. The axis below is stretched towards the tail, 90 % as far from 99 % as that from
// 99.9 %.
func Plot(title string, rows []Row) ([]byte, error) {
	p := plot.New()
	p.Title.Text = title
	p.X.Label.Text = "requests"
	p.Y.Label.Text = "latency, µs"
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = microTicks{}
	p.X.Tick.Marker = shareTicks{}
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	lines := 0
	low, high := math.Inf(1), 0.0
	for i := range rows {
		named := false
		for j := range rows[i].Runs {
			pts := curvePoints(rows[i].Runs[j].Total.Curve)
			if len(pts) < 2 {
				continue
			}
			l, err := plotter.NewLine(pts)
			if err != nil {
				return nil, fmt.Errorf("plotting %s: %w", rows[i].Name, err)
			}
			for _, pt := range pts {
				low, high = min(low, pt.Y), max(high, pt.Y)
			}
			l.Color = plotColors[i%len(plotColors)]
			l.Width = vg.Points(1.5)
			l.Dashes = plotDashes[i/len(plotColors)%len(plotDashes)]
			p.Add(l)
			if !named {
				named = true
				p.Legend.Add(rows[i].Name, l)
			}
			lines++
		}
	}
	if lines == 0 {
		return nil, fmt.Errorf("plotting %s: no run has latencies", title)
	}
	p.Y.Min, p.Y.Max = low/1.2, high*math.Pow(1.6, float64(min(len(rows), 8))) // room for the legend
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(10*vg.Inch, 6*vg.Inch), vgimg.UseDPI(100), vgimg.UseBackgroundColor(color.White))}
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("plotting %s: %w", title, err)
	}
	return b.Bytes(), nil
}

func curvePoints(curve []Point) plotter.XYs {
	var pts plotter.XYs
	for _, c := range curve {
		if c.NS > 0 && c.Share < 1 {
			pts = append(pts, plotter.XY{X: -math.Log10(1 - c.Share), Y: c.NS / 1000})
		}
	}
	return pts
}

// shareTicks marks 0 %, 90 %, 99 % and so on, one apart on the axis, and 50 %.
type shareTicks struct{}

func (shareTicks) Ticks(low, high float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 0, Label: "0 %"}, {Value: math.Log10(2), Label: "50 %"}}
	for n := 1; float64(n) <= high; n++ {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: fmt.Sprintf("%.*f %%", max(0, n-2), 100-math.Pow(10, float64(2-n)))})
	}
	return ticks
}

// microTicks marks 1, 2 and 5 of each decade.
type microTicks struct{}

func (microTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	for e := math.Floor(math.Log10(low)); math.Pow(10, e) <= high; e++ {
		for m := 1.0; m < 10; m++ {
			v := m * math.Pow(10, e)
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v}
			if m == 1 || m == 2 || m == 5 {
				t.Label = number(v)
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}

// plotColors can be told apart by people who do not see all colours: Okabe and Ito, "Color Universal Design".
var plotColors = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0x40, 0x40, 0x40, 0xff},
}

var plotDashes = [][]vg.Length{nil, {vg.Points(4), vg.Points(2)}, {vg.Points(1), vg.Points(2)}}
