package iscsi

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// Patience is how long initiators are waited for in a test; what is 0 stays as it is.
type Patience struct {
	Login, Data, Wanted, Logout, Discovery time.Duration

	Beside uint64
}

// SetPatience sets it for engines that the test starts after it.
func SetPatience(t *testing.T, p Patience) {
	was := patience
	t.Cleanup(func() { patience = was })
	if p.Beside > 0 {
		patience.beside = p.Beside
	}
	for _, s := range []struct {
		to *reactor.Ticks
		d  time.Duration
	}{{&patience.login, p.Login}, {&patience.data, p.Data}, {&patience.wanted, p.Wanted}, {&patience.logout, p.Logout}, {&patience.discovery, p.Discovery}} {
		if s.d > 0 {
			*s.to = reactor.Ticks(s.d)
		}
	}
}
