package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is what every command that speaks to a running engine shares: where the engine is, and how to print.

// engineFlags say which engine to ask.
type engineFlags struct {
	Socket string `short:"s" default:"${socket}" env:"POLLUX_SOCKET" placeholder:"PATH" help:"Control socket of the engine (${default})."`
	Server string `env:"POLLUX_SERVER" placeholder:"tls://HOST:PORT" help:"An engine on the network, instead of the socket's."`
	Cert   string `name:"tls-cert" env:"POLLUX_TLS_CERT" placeholder:"FILE" help:"Certificate to show to an engine on the network, PEM."`
	Key    string `name:"tls-key" env:"POLLUX_TLS_KEY" placeholder:"FILE" help:"Key of that certificate, PEM."`
	CA     string `name:"tls-ca" env:"POLLUX_TLS_CA" placeholder:"FILE" help:"Authorities of engines, PEM; the machine's without it."`
}

// dial connects to the engine.
func (f *engineFlags) dial() (*api.Client, error) {
	if f.Server == "" {
		return api.Dial(f.Socket)
	}
	addr, ok := strings.CutPrefix(f.Server, "tls://")
	if !ok {
		return nil, fmt.Errorf("connect to the engine at %s: this is no address; write for example tls://storage1:9430", f.Server)
	}
	return api.DialTLS(addr, api.TLSFiles{Cert: f.Cert, Key: f.Key, CA: f.CA})
}

// ask makes one call of the engine.
func ask[P, R any](f *engineFlags, m api.Method[P, R], p P) (result R, err error) {
	engine, err := f.dial()
	if err != nil {
		return result, err
	}
	defer engine.Close()
	return m.Call(context.Background(), engine, p)
}

// outputFlags say how to print.
type outputFlags struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"How to print: table for people, json for programs (${default})."`
}

// print writes v as JSON, or what fill makes of it as a table.
func (f *outputFlags) print(v any, fill func(t *table)) error {
	if f.Output == "json" {
		return printJSON(os.Stdout, v)
	}
	var t table
	fill(&t)
	_, err := io.WriteString(os.Stdout, t.String())
	return err
}

// printJSON writes v with an indent of two, as rpc.py does, and characters as they are.
func printJSON(w io.Writer, v any) error {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print the engine's answer: %w", err)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// table is rows under a head. Columns of numbers stand to the right.
type table struct {
	head []string
	rows [][]string
	// right is set for columns of which every cell is a number.
	right []bool
}

// columns sets the head.
func (t *table) columns(names ...string) {
	t.head = names
	t.right = make([]bool, len(names))
	for i := range t.right {
		t.right[i] = true
	}
}

// row adds one.
func (t *table) row(cells ...any) {
	row := make([]string, len(t.head))
	for i := range row {
		switch cell := cells[i].(type) {
		case string:
			row[i], t.right[i] = cell, false
		case bool:
			row[i], t.right[i] = "-", false
			if cell {
				row[i] = "yes"
			}
		default:
			row[i] = fmt.Sprint(cell)
		}
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// String draws the table. Nothing stands behind the last cell of a line.
func (t *table) String() string {
	widths := make([]int, len(t.head))
	lines := append([][]string{t.head}, t.rows...)
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var text strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if len(t.rows) > 0 && t.right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			if i > 0 {
				text.WriteString("  ")
			}
			text.WriteString(cell)
		}
		b.WriteString(strings.TrimRight(text.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// size prints bytes as people do.
func size(bytes uint64) string {
	const units = "KMGTPE"
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/(1<<10), 0
	for value >= 1<<10 && unit < len(units)-1 {
		value /= 1 << 10
		unit++
	}
	if value == float64(uint64(value)) {
		return fmt.Sprintf("%d %ciB", uint64(value), units[unit])
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
