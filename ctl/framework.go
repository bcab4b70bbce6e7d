package ctl

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/internal/version"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about the reactors and the process. What SPDK calls a thread is here a reactor.

func reactorName(i int) string { return fmt.Sprintf("reactor_%d", i) }

// reactorNamed finds a reactor by its name.
func (e *Engine) reactorNamed(name string) (int, error) {
	for i := range e.Reactors.Len() {
		if reactorName(i) == name {
			return i, nil
		}
	}
	return 0, api.Invalid("there is no reactor %q; framework_get_reactors lists those there are", name)
}

func coreMask(core int) string {
	if core < 0 {
		return "0x0"
	}
	return fmt.Sprintf("%#x", uint64(1)<<core)
}

// reactorState is what is told of one reactor, read on it.
type reactorState struct {
	r       *reactor.Reactor
	stats   reactor.Stats
	pollers []reactor.PollerStats
	timers  int
	memory  reactor.MemoryStats
	turns   reactor.Turns
	asleep  bool
}

func (e *Engine) reactorStates() []reactorState {
	out := make([]reactorState, e.Reactors.Len())
	for i, r := range e.Reactors.Reactors() {
		out[i].r, out[i].asleep = r, r.Asleep() // before the question wakes it
	}
	_ = e.Reactors.Each(func(r *reactor.Reactor) {
		s := &out[r.Index()]
		s.stats, s.pollers, s.timers, s.memory = r.Stats(), r.Pollers(), r.TimersSet(), r.Memory().Stats()
		r.Turns(&s.turns)
	})
	return out
}

// tell is what it is in our own words.
func (s *reactorState) tell() api.EngineReactor {
	out := api.EngineReactor{
		Name: reactorName(s.r.Index()), Core: s.r.Core(), IdlePolicy: s.r.Idle().String(), BusyNS: uint64(s.stats.Busy), IdleNS: uint64(s.stats.Idle),
		AsleepNS: uint64(s.stats.Asleep), Turns: s.stats.Ticks, Sleeps: s.stats.Sleeps, Enters: s.stats.Enters, Completions: s.stats.Completions,
		Messages: s.stats.Messages, LongestNS: uint64(s.turns.Longest), SlowTurns: []api.SlowTurns{},
	}
	for i, n := range s.turns.Slow.Counts {
		if n > 0 {
			out.SlowTurns = append(out.SlowTurns, api.SlowTurns{UpToNS: uint64(hist.Border(i)), Turns: n})
		}
	}
	return out
}

func (e *Engine) registerFramework() {
	r := e.Methods
	Register(r, api.FrameworkGetReactors, func(context.Context, *api.None) (api.Reactors, error) {
		out := api.Reactors{TickRate: reactor.TickRate, PID: os.Getpid()}
		for _, s := range e.reactorStates() {
			out.Reactors = append(out.Reactors, api.Reactor{
				Lcore: uint32(max(0, s.r.Core())), TID: s.r.ThreadID(), Busy: uint64(s.stats.Busy), Idle: uint64(s.stats.Idle), InInterrupt: s.asleep,
				LwThreads: []api.LwThread{{Name: reactorName(s.r.Index()), ID: uint64(s.r.Index() + 1), CPUMask: coreMask(s.r.Core()), Elapsed: uint64(s.stats.Busy + s.stats.Idle)}},
			})
		}
		return out, nil
	})
	Register(r, api.ThreadGetStats, func(context.Context, *api.None) (api.Threads, error) {
		out := api.Threads{TickRate: reactor.TickRate}
		for _, s := range e.reactorStates() {
			out.Threads = append(out.Threads, api.ThreadStats{
				Name: reactorName(s.r.Index()), ID: uint64(s.r.Index() + 1), CPUMask: coreMask(s.r.Core()), Busy: uint64(s.stats.Busy), Idle: uint64(s.stats.Idle),
				ActivePollersCount: uint64(len(s.pollers)), TimedPollersCount: uint64(s.timers),
			})
		}
		return out, nil
	})
	Register(r, api.ThreadGetPollers, func(context.Context, *api.None) (api.ThreadPollers, error) {
		out := api.ThreadPollers{TickRate: reactor.TickRate}
		for _, s := range e.reactorStates() {
			t := api.PollersThread{Name: reactorName(s.r.Index()), ID: uint64(s.r.Index() + 1)}
			for i, p := range s.pollers {
				t.ActivePollers = append(t.ActivePollers, api.Poller{Name: p.Name, ID: uint64(i + 1), State: "waiting", RunCount: p.Runs, BusyCount: p.Hits})
			}
			out.Threads = append(out.Threads, t)
		}
		return out, nil
	})
	Register(r, api.IOBufGetStats, func(context.Context, *api.None) ([]api.IOBufStats, error) {
		var out []api.IOBufStats
		for _, s := range e.reactorStates() {
			out = append(out, api.IOBufStats{Module: reactorName(s.r.Index()), LargePool: api.IOBufPool{Cache: s.memory.Takeouts, Retry: s.memory.Retries}})
		}
		return out, nil
	})
	Register(r, api.EngineGetHeap, func(context.Context, *api.None) (api.EngineHeap, error) { return goHeap(), nil })
	Register(r, api.EngineGetReactors, func(context.Context, *api.None) ([]api.EngineReactor, error) {
		list := []api.EngineReactor{}
		for _, s := range e.reactorStates() {
			list = append(list, s.tell())
		}
		return list, nil
	})
	Register(r, api.EngineGetInfo, func(context.Context, *api.None) (api.EngineInfo, error) { return e.info(), nil })
	RegisterDo(r, api.EngineSetIdlePolicy, func(_ context.Context, p *api.EngineSetIdlePolicyParams) error {
		i, err := reactor.ParseIdle(p.Policy)
		if err != nil {
			return api.Invalid("%v", err)
		}
		if p.SpinUS != nil {
			_ = e.Reactors.Each(func(r *reactor.Reactor) { r.SetSpin(reactor.Ticks(*p.SpinUS) * reactor.Microsecond) })
		}
		e.Reactors.SetIdle(i)
		return nil
	})
	RegisterDo(r, api.SPDKKillInstance, func(_ context.Context, p *api.KillParams) error { return kill(p.SigName) })
	Register(r, api.EngineGetHealth, func(context.Context, *api.None) (api.EngineHealth, error) { return e.health(), nil })
}

func (e *Engine) info() api.EngineInfo {
	var u unix.Utsname
	_ = unix.Uname(&u)
	host, _ := os.Hostname()
	model, features := reactor.CPUFeatures()
	i := api.EngineInfo{
		Version: version.Pollux, Commit: version.Commit(), Go: runtime.Version(), Kernel: unix.ByteSliceToString(u.Release[:]), Hostname: host, PID: os.Getpid(),
		Started: e.began.Format(time.RFC3339), UptimeSec: uint64(time.Since(e.began).Seconds()), State: e.Methods.State().String(),
		IdlePolicy: e.Reactors.Reactor(0).Idle().String(), CPU: api.EngineCPU{Model: model, Features: features}, Abilities: []string{"tcp", "iscsi"},
	}
	for _, r := range e.Reactors.Reactors() {
		i.Cores = append(i.Cores, uint32(max(0, r.Core())))
	}
	i.Memory, i.MapCache = e.memory(), e.mapCache()
	return i
}
