package ctl

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Log is the engine's log. Each package logs through a logger of its own (For), whose name is its flag. A message is printed
// if it has the print level or more, and kept for engine_events if it has the log level or more; a package's flag lets all of
// its messages through to both. SPDK has the same two levels and flags, but wants both flag and level for debugging.
type Log struct {
	printFrom, keepFrom slog.LevelVar
	timestamps          atomic.Bool
	printer             slog.Handler
	events              history[api.EngineEvent]

	mu    sync.Mutex
	flags map[string]*atomic.Bool
}

// LevelNotice is what an operator should see in normal running: between Info and Warn.
const LevelNotice = slog.Level(2)

// eventMax is how many messages are kept.
const eventMax = 4096

var levels = []struct {
	name  string
	level slog.Level
}{
	{"ERROR", slog.LevelError}, {"WARNING", slog.LevelWarn}, {"NOTICE", LevelNotice}, {"INFO", slog.LevelInfo}, {"DEBUG", slog.LevelDebug},
}

// ParseLevel reads a level's name in any letter case; warn is short for warning.
func ParseLevel(name string) (slog.Level, error) {
	if strings.EqualFold(name, "warn") {
		return slog.LevelWarn, nil
	}
	var names []string
	for _, l := range levels {
		if strings.EqualFold(l.name, name) {
			return l.level, nil
		}
		names = append(names, l.name)
	}
	return 0, fmt.Errorf("there is no log level %q; there are %s", name, strings.Join(names, ", "))
}

func levelName(level slog.Level) string {
	for _, l := range levels {
		if level >= l.level {
			return l.name
		}
	}
	return "DEBUG"
}

// NewLog makes a log that prints to out from a level on, and keeps INFO and above.
func NewLog(out io.Writer, level slog.Level) *Log {
	l := &Log{flags: map[string]*atomic.Bool{}, events: history[api.EngineEvent]{limit: eventMax}}
	l.printFrom.Set(level)
	l.keepFrom.Set(min(level, slog.LevelInfo))
	l.timestamps.Store(true)
	l.printer = slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: slog.LevelDebug, // logHandler decides
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch {
			case len(groups) > 0:
			case a.Key == slog.TimeKey && !l.timestamps.Load():
				return slog.Attr{}
			case a.Key == slog.LevelKey:
				if level, ok := a.Value.Any().(slog.Level); ok {
					a.Value = slog.StringValue(levelName(level))
				}
			}
			return a
		},
	})
	return l
}

// For makes a package's logger.
func (l *Log) For(pkg string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flags[pkg] == nil {
		l.flags[pkg] = new(atomic.Bool)
	}
	return slog.New(&logHandler{log: l, pkg: pkg, flag: l.flags[pkg], printer: l.printer.WithAttrs([]slog.Attr{slog.String("pkg", pkg)})})
}

// logHandler is one package's way into the log.
type logHandler struct {
	log     *Log
	pkg     string
	flag    *atomic.Bool
	printer slog.Handler
	attrs   []slog.Attr // of With, for the events
	group   string      // of WithGroup, with its final dot
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.flag.Load() || level >= h.log.printFrom.Level() || level >= h.log.keepFrom.Level()
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	flagged := h.flag.Load()
	if flagged || r.Level >= h.log.keepFrom.Level() {
		h.keep(r)
	}
	if flagged || r.Level >= h.log.printFrom.Level() {
		return h.printer.Handle(ctx, r)
	}
	return nil
}

func (h *logHandler) keep(r slog.Record) {
	attrs := map[string]string{}
	for _, a := range h.attrs {
		attrs[a.Key] = a.Value.Resolve().String()
	}
	r.Attrs(func(a slog.Attr) bool {
		attrs[h.group+a.Key] = a.Value.Resolve().String()
		return true
	})
	h.log.events.add(func(id uint64) api.EngineEvent {
		return api.EngineEvent{
			ID: id, Time: r.Time.Format(time.RFC3339Nano), Level: levelName(r.Level), Flag: h.pkg, Message: r.Message, Attrs: attrs,
		}
	})
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.printer = h.printer.WithAttrs(attrs)
	c.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		c.attrs = append(c.attrs, slog.Attr{Key: h.group + a.Key, Value: a.Value})
	}
	return &c
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.printer = h.printer.WithGroup(name)
	c.group = h.group + name + "."
	return &c
}

// setFlag sets the flag of a package, or of all.
func (l *Log) setFlag(pkg string, on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pkg == "all" {
		for _, flag := range l.flags {
			flag.Store(on)
		}
		return nil
	}
	flag, ok := l.flags[pkg]
	if !ok {
		return api.Invalid("there is no log flag %q; log_get_flags lists those there are", pkg)
	}
	flag.Store(on)
	return nil
}

func (l *Log) getFlags() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	flags := make(map[string]bool, len(l.flags))
	for pkg, flag := range l.flags {
		flags[pkg] = flag.Load()
	}
	return flags
}

// RegisterLog adds the methods about the log.
func RegisterLog(r *Registry, l *Log) {
	set := func(level *slog.LevelVar) func(context.Context, *api.LogLevelParams) error {
		return func(_ context.Context, p *api.LogLevelParams) error {
			parsed, err := ParseLevel(p.Level)
			if err != nil {
				return err
			}
			level.Set(parsed)
			return nil
		}
	}
	get := func(level *slog.LevelVar) func(context.Context, *api.None) (string, error) {
		return func(context.Context, *api.None) (string, error) { return levelName(level.Level()), nil }
	}
	RegisterDo(r, api.LogSetLevel, set(&l.keepFrom))
	Register(r, api.LogGetLevel, get(&l.keepFrom))
	RegisterDo(r, api.LogSetPrintLevel, set(&l.printFrom))
	Register(r, api.LogGetPrintLevel, get(&l.printFrom))
	RegisterDo(r, api.LogSetFlag, func(_ context.Context, p *api.LogFlagParams) error { return l.setFlag(p.Flag, true) })
	RegisterDo(r, api.LogClearFlag, func(_ context.Context, p *api.LogFlagParams) error { return l.setFlag(p.Flag, false) })
	Register(r, api.LogGetFlags, func(context.Context, *api.None) (map[string]bool, error) { return l.getFlags(), nil })
	RegisterDo(r, api.LogEnableTimestamps, func(_ context.Context, p *api.LogTimestampsParams) error {
		l.timestamps.Store(p.Enabled)
		return nil
	})
	Register(r, api.EngineEvents, func(_ context.Context, p *api.EngineEventsParams) ([]api.EngineEvent, error) {
		least, err := ParseLevel(p.Level)
		if err != nil {
			return nil, err
		}
		return l.events.from(p.ID, p.Max, func(e *api.EngineEvent) bool {
			level, _ := ParseLevel(e.Level) // levelName wrote it
			return level >= least
		}), nil
	})
}
