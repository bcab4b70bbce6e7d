package nvmf

import (
	"slices"
	"sync"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is where the arithmetic of authentications runs: away from the reactors, first come, first served, on few
// goroutines, which end when there is nothing to do.
//
// A host that has not proved anything yet can ask for this work, so it has bounds: a queue has one piece of it out at a time,
// at most two in an exchange, and none any more when it has closed; and however many queues want some, no more than
// authWorkers processors of the control plane are busy with it.

// authPool is that of one target. Any goroutine may call it.
type authPool struct {
	workers int
	run     func(*DHJob)   // DHJob.Run; a test puts something before it
	working sync.WaitGroup // the goroutines

	mu      sync.Mutex // held for a moment only: reactors take it
	waiting []*authWork
	running int
}

// authWork is a job on its way: from its queue's reactor to the pool and back.
type authWork struct {
	a   *queueAuth // the reactor's; it does not wait for the job any more once its work is another
	r   *reactor.Reactor
	job *DHJob // whose hands the work is in
}

// authWorkers is how many goroutines compute. Each reactor has a processor of the Go runtime for itself and one is to be free
// for timers and calls, or those are late by as much as 20 ms; authentications may have what is left, and one if nothing is.
func authWorkers(processors, reactors int) int { return max(1, processors-reactors-1) }

func (p *authPool) init(workers int) { p.workers, p.run = workers, (*DHJob).Run }

// add takes work.
func (p *authPool) add(w *authWork) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, w)
	if p.running < p.workers {
		p.running++
		p.working.Go(p.work)
	}
}

// drop takes work back, if nobody has begun it, and reports whether.
func (p *authPool) drop(w *authWork) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return i >= 0
}

// next gives the oldest work, or nil to a goroutine that is to end.
func (p *authPool) next() *authWork {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.running--
		return nil
	}
	w := p.waiting[0]
	p.waiting = slices.Delete(p.waiting, 0, 1)
	return w
}

// work does what there is, and hands each result to the reactor that it is for.
func (p *authPool) work() {
	for w := p.next(); w != nil; w = p.next() {
		p.run(w.job)
		if w.r.Go(func() { w.a.computed(w) }) != nil {
			w.job.wipe() // the reactor has ended, and its queues before it
		}
	}
}

// wait returns when nothing is computed any more. No queue may be left that could want more.
func (p *authPool) wait() { p.working.Wait() }
