package reactor

import "fmt"

// Idle is what a reactor does when there is nothing to do.
type Idle int32

// The idle policies.
const (
	Adaptive  Idle = iota // spins for a bounded time after the last work, then sleeps
	Poll                  // never sleeps
	Interrupt             // sleeps at once
)

var idleNames = [...]string{"adaptive", "poll", "interrupt"}

// String gives the name that options and RPC use.
func (i Idle) String() string {
	if i >= 0 && int(i) < len(idleNames) {
		return idleNames[i]
	}
	return fmt.Sprintf("Idle(%d)", int32(i))
}

// ParseIdle reads a policy's name.
func ParseIdle(s string) (Idle, error) {
	for i, n := range idleNames {
		if s == n {
			return Idle(i), nil
		}
	}
	return 0, fmt.Errorf("no idle policy %q: choose poll, adaptive or interrupt", s)
}

// SetIdle changes the policy. Any goroutine may call it.
func (r *Reactor) SetIdle(i Idle) {
	r.policy.Store(int32(i))
	_ = r.Go(func() {}) // a sleeper looks again
}

// Idle gives the policy. Any goroutine may call it.
func (r *Reactor) Idle() Idle { return Idle(r.policy.Load()) }
