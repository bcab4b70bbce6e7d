package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the screen of pollux top: look, wait, look, and a key now and then.

const (
	topIntervalMin = 100 * time.Millisecond
	topIntervalMax = time.Minute
)

// topScreen is the state of the screen.
type topScreen struct {
	ctx      context.Context
	engine   api.Caller
	interval time.Duration
	key      string // what devices are sorted by

	before *topLook // nil until the first look
	load   engineLoad
	err    error // why the screen ended, if not by a key

	width, height int // of the terminal; 0 until it said so
}

// lookMsg is a look that ended.
type lookMsg struct {
	look topLook
	err  error
}

// lookNowMsg says that it is time for one.
type lookNowMsg struct{}

func newTopScreen(ctx context.Context, engine api.Caller, interval time.Duration, key string) topScreen {
	return topScreen{ctx: ctx, engine: engine, interval: interval, key: key}
}

// Init takes the first look.
func (s topScreen) Init() tea.Cmd { return s.look }

func (s topScreen) look() tea.Msg {
	look, err := lookAround(s.ctx, s.engine)
	return lookMsg{look, err}
}

// Update takes what happened.
func (s topScreen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return s.press(msg.String())
	case lookNowMsg:
		return s, s.look
	case lookMsg:
		if msg.err != nil {
			s.err = msg.err
			return s, tea.Quit
		}
		if s.before != nil {
			s.load = loadOf(s.before, &msg.look)
		}
		s.before = &msg.look
		return s, tea.Tick(s.interval, func(time.Time) tea.Msg { return lookNowMsg{} })
	}
	return s, nil
}

func (s topScreen) press(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "q", "esc", "ctrl+c":
		return s, tea.Quit
	case "s":
		s.key = topKeys[(slices.Index(topKeys, s.key)+1)%len(topKeys)]
	case "+":
		s.interval = min(2*s.interval, topIntervalMax)
	case "-":
		s.interval = max(s.interval/2, topIntervalMin)
	}
	return s, nil
}

// View draws the whole screen.
func (s topScreen) View() tea.View {
	v := tea.NewView(s.text())
	v.AltScreen = true
	return v
}

// text is what is drawn, cut to the terminal.
func (s topScreen) text() string {
	head := fmt.Sprintf("pollux top   every %v (+ -)   devices by %s (s)   end (q)", s.interval, s.key)
	body := "looking ..."
	if s.load.Reactors != nil {
		s.load.sort(s.key)
		body = s.load.text()
	}
	lines := strings.Split(strings.TrimSuffix(head+"\n\n"+body, "\n"), "\n")
	if s.height > 0 && len(lines) > s.height {
		lines = lines[:s.height]
	}
	for i, line := range lines {
		if letters := []rune(line); s.width > 0 && len(letters) > s.width {
			lines[i] = string(letters[:s.width])
		}
	}
	return strings.Join(lines, "\n")
}
