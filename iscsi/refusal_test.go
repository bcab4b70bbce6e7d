package iscsi

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// TestRefusalsDoNotFillTheLog: of many in a second one is logged, and the next line says how many were not.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	x := newTargetRig(t, 1)
	var log bytes.Buffer
	x.log = slog.New(slog.NewTextHandler(&log, nil))
	pg := x.groups[0]
	on := func(f func()) { x.good(pg.r.Call(f)) }
	s := &session{pg: pg, login: &login{why: "for a test"}}
	on(func() {
		for range 1000 {
			pg.logRefusal(s, LoginNotAllowed)
		}
		pg.refusalLogged = max(1, pg.refusalLogged-2*reactor.Second)
		if pg.refusalLogged == 1 {
			pg.refusalLogged = 0 // the engine is younger than that
		}
		pg.logRefusal(s, LoginNotAllowed)
	})
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], `"not logged before it"=999`) {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}
