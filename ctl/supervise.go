package ctl

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file tells the service manager how the engine fares: sd_notify(3), sd_watchdog_enabled(3). A reactor that does not turn any more
// cannot be helped from inside, so the manager hears from the watchdog only while all of them turn, and starts the engine anew if it does
// not.

// Supervisor is the service manager that started this process. A nil one is nobody, who hears nothing.
type Supervisor struct {
	conn   *net.UnixConn
	log    *slog.Logger
	period time.Duration // between two looks of the watchdog; 0: the manager wants none

	stop    chan struct{}
	watcher sync.WaitGroup
}

// looksPerInterval is how often reactors are asked while the manager waits for one sign of life.
const looksPerInterval = 4

// NewSupervisor finds the manager by the environment that it gave to the process with this id. Without one it is nil.
func NewSupervisor(getenv func(string) string, pid int, log *slog.Logger) (*Supervisor, error) {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return nil, fmt.Errorf("notify the service manager: NOTIFY_SOCKET is %q, which is neither a path nor an abstract name (@...)", name)
	}
	s := &Supervisor{log: log, stop: make(chan struct{})}
	if text := getenv("WATCHDOG_USEC"); text != "" {
		micros, err := strconv.ParseUint(text, 10, 63)
		if err != nil || micros == 0 || micros > uint64(1<<62/time.Microsecond) {
			return nil, fmt.Errorf("notify the service manager: WATCHDOG_USEC is %q, which is no number of microseconds", text)
		}
		if of := getenv("WATCHDOG_PID"); of == "" || of == strconv.Itoa(pid) { // else it is meant for another process
			s.period = max(time.Duration(micros)*time.Microsecond/looksPerInterval, time.Millisecond)
		}
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify the service manager at NOTIFY_SOCKET: %w", err)
	}
	s.conn = conn
	return s, nil
}

// tell sends lines. What the manager does not take it does not miss: it judges by what it hears.
func (s *Supervisor) tell(lines ...string) {
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		s.log.Warn("the service manager did not hear", "what", lines[0], "error", err)
	}
}

// Ready says that the configuration is loaded, and hosts are served.
func (s *Supervisor) Ready(status string) {
	if s != nil {
		s.tell("READY=1", "STATUS="+strings.ReplaceAll(status, "\n", " "))
	}
}

// Stopping says that the engine ends.
func (s *Supervisor) Stopping() {
	if s != nil {
		s.tell("STOPPING=1", "STATUS=closing volumes and pools")
	}
}

// Watch begins to give signs of life, until Close.
func (s *Supervisor) Watch(g *reactor.Group) {
	if s == nil || s.period == 0 {
		return
	}
	w := newWatchdog(g, func() { s.tell("WATCHDOG=1") }, s.log)
	s.watcher.Go(func() {
		ticker := time.NewTicker(s.period)
		defer ticker.Stop()
		for {
			w.look()
			select {
			case <-s.stop:
				return
			case <-ticker.C:
			}
		}
	})
}

// Close ends it.
func (s *Supervisor) Close() error {
	if s == nil {
		return nil
	}
	close(s.stop)
	s.watcher.Wait()
	return s.conn.Close()
}

// watchdog asks every reactor, and gives a sign of life when all have answered. It never waits for one.
type watchdog struct {
	g      *reactor.Group
	alive  func()
	log    *slog.Logger
	answer chan int // the index of who answers; as many as there are reactors fit
	silent []bool   // asked, and not answered yet
	warned bool
}

func newWatchdog(g *reactor.Group, alive func(), log *slog.Logger) *watchdog {
	return &watchdog{g: g, alive: alive, log: log, answer: make(chan int, g.Len()), silent: make([]bool, g.Len())}
}

// look takes the answers to the last question. If all are there it gives a sign of life and asks again; one question at most is open
// at each reactor.
func (w *watchdog) look() {
	for {
		select {
		case i := <-w.answer:
			w.silent[i] = false
			continue
		default:
		}
		break
	}
	for i, silent := range w.silent {
		if silent {
			if !w.warned {
				w.log.Error("a reactor does not turn; the service manager starts the engine anew if this goes on", "reactor", i)
			}
			w.warned = true
			return
		}
	}
	w.warned = false
	w.alive()
	for i, r := range w.g.Reactors() {
		w.silent[i] = r.Go(func() { w.answer <- i }) == nil // one that has ended is not asked
	}
}
