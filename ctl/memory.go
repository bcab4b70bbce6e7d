package ctl

import (
	"log/slog"
	"runtime"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file tells what memory the engine has: the reactors' buffers, by engine_info and once in the log, there also the pages of maps, and by
// engine_get_heap the Go heap.

func (e *Engine) memory() (out []api.EngineMemory) {
	_ = e.Reactors.Each(func(r *reactor.Reactor) {
		s := r.Memory().Stats()
		m := api.EngineMemory{
			Reactor: reactorName(r.Index()), LimitBytes: uint64(s.Limit), ReadyBytes: uint64(s.Ready), InUseBytes: uint64(s.InUse),
			HugeBytes: uint64(s.HugeBytes), Registered: s.Registered,
		}
		if s.WhyPlain != nil {
			m.WhyNotHuge = s.WhyPlain.Error()
		}
		if s.WhyUnregistered != nil {
			m.WhyUnregistered = s.WhyUnregistered.Error()
		}
		out = append(out, m)
	})
	return out
}

// mapCache tells of the pages of maps.
func (e *Engine) mapCache() (out []api.EngineMapCache) {
	all, err := e.pools.cache.Info(e.Reactors)
	if err != nil {
		return nil // the reactors are gone
	}
	for _, i := range all {
		out = append(out, api.EngineMapCache{
			Reactor: reactorName(i.Reactor), LimitBytes: i.Bytes, InUseBytes: i.BytesUsed, DirtyBytes: i.BytesDirty,
			GuaranteedBytes: i.BytesGuaranteed, LentBytes: i.BytesLent, Hits: i.Hits, Misses: i.Misses, Evictions: i.Evictions,
		})
	}
	return out
}

// logMemory says once what memory the reactors began with. More comes as it is needed, so this is about the first of it.
func logMemory(memory []api.EngineMemory, log *slog.Logger) {
	var ready, huge, limit uint64
	var plain, apart string
	for _, m := range memory {
		ready, huge, limit = ready+m.ReadyBytes, huge+m.HugeBytes, limit+m.LimitBytes
		if plain == "" {
			plain = m.WhyNotHuge
		}
		if apart == "" {
			apart = m.WhyUnregistered
		}
	}
	args := []any{"reactors", len(memory), "limit_mib", limit >> 20, "ready_mib", ready >> 20, "huge_mib", huge >> 20, "registered", apart == ""}
	if plain != "" {
		args = append(args, "why_not_huge", plain, "for_hugepages", "reserve them: sysctl vm.nr_hugepages")
	}
	if apart != "" {
		log.Warn("memory for I/O, not all of it registered with the rings: each request pins its pages", append(args, "why_not_registered", apart,
			"to_register", "raise the limit of locked memory: ulimit -l, LimitMEMLOCK= of a unit")...)
		return
	}
	log.Info("memory for I/O", args...)
}

// goHeap counts exactly. What the runtime counts without stopping the world is late by what each thread has at hand, up to a thousand
// objects of a size.
func goHeap() api.EngineHeap {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return api.EngineHeap{Bytes: s.HeapAlloc, AllocatedObjects: s.Mallocs, Collections: uint64(s.NumGC)}
}
