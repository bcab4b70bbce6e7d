package wal

import "github.com/pollux-storage/pollux/reactor"

// Stage is a step at which a test may hold what passes, and let it go on.
type Stage uint8

// The stages of the log and of what stands on it.
const (
	StageWrite Stage = iota // a batch is about to be written
	StageFlush              // the log is about to join a flush
	StageAck                // the flush is over, the host has not heard
	StageMap                // map pages are about to be written
	stageEnd
)

// StageCount is the number of stages, for tests that go through them.
const StageCount = int(stageEnd)

// Stages holds what tests want held. The nil Stages, which is what production has, holds nothing. It belongs to one reactor.
type Stages struct {
	shut    [stageEnd]bool
	waiting [stageEnd][]reactor.Runner
}

// hold keeps run, which is to be called when the stage is opened again, if the stage is shut, and reports whether it did.
func (s *Stages) hold(at Stage, run reactor.Runner) bool {
	if s == nil || !s.shut[at] {
		return false
	}
	for _, w := range s.waiting[at] {
		if w == run {
			return true
		}
	}
	s.waiting[at] = append(s.waiting[at], run)
	return true
}

// Hold is hold, for the packages above.
func (s *Stages) Hold(at Stage, run reactor.Runner) bool { return s.hold(at, run) }

// Shut holds what comes to the stage from now on.
func (s *Stages) Shut(at Stage) { s.shut[at] = true }

// IsShut says whether a stage is.
func (s *Stages) IsShut(at Stage) bool { return s.shut[at] }

// Waiting is the number of those held there.
func (s *Stages) Waiting(at Stage) int { return len(s.waiting[at]) }

// Open lets go what was held, and whatever comes.
func (s *Stages) Open(at Stage) {
	s.shut[at] = false
	w := s.waiting[at]
	s.waiting[at] = nil
	for _, run := range w {
		run.Run()
	}
}
