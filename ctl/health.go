package ctl

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Health is the one place where the engine's state is derived: the worst of what its parts report.
type Health struct {
	mu      sync.Mutex
	reasons map[string]api.HealthReason // by object
}

// The states of health, better to worse.
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded" // it serves, but less safely or less quickly than it was told to
	HealthFailed   = "failed"   // something that it was told to serve is not served
)

// NewHealth makes a healthy engine.
func NewHealth() *Health { return &Health{reasons: map[string]api.HealthReason{}} }

// Report says how an object fares. HealthOK takes back what was reported before; a repetition keeps its first time.
func (h *Health) Report(object, state, why string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if state == HealthOK {
		delete(h.reasons, object)
		return
	}
	since := now.Format(time.RFC3339)
	if before, ok := h.reasons[object]; ok && before.State == state {
		since = before.Since
	}
	h.reasons[object] = api.HealthReason{State: state, Object: object, Why: why, Since: since}
}

// forget drops what was reported of objects of one kind that are not here any more.
func (h *Health) forget(kind string, here map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for object := range h.reasons {
		if strings.HasPrefix(object, kind) && !here[object] {
			delete(h.reasons, object)
		}
	}
}

// State is the engine's health with all that led to it, the worst first.
func (h *Health) State() api.EngineHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	health := api.EngineHealth{State: HealthOK}
	for _, r := range h.reasons {
		health.Reasons = append(health.Reasons, r)
		if health.State != HealthFailed {
			health.State = r.State
		}
	}
	slices.SortFunc(health.Reasons, func(a, b api.HealthReason) int {
		if a.State != b.State {
			return strings.Compare(b.State, a.State) // failed before degraded
		}
		return strings.Compare(a.Object, b.Object)
	})
	return health
}
