package nvmf

import (
	"slices"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is where an I/O queue goes: the choice at its Connect, by what is known of the reactors then. It is not for ever:
// balance.go has queues moved when it turns out wrong.
//
// What counts, in this order:
//
//	1  a reactor that is hot, by what it did lately and what the queues bring that came since, gets none while another is not
//	2  the queues of one controller spread: a host means them to be served side by side
//	3  where that was chosen (SocketOptions.ByCPU), the reactor goes first on whose core the connection's packets come in
//	4  a reactor that is markedly less busy goes first, then one with fewer queues
//	5  the queue's id decides, so that equals take turns, and the same hosts find the same places

// Busy shares, in thousandths of the time.
const (
	busyHot  = 850
	busyCold = 500
	busyStep = 100 // shares that differ by less are alike
)

// reactorSample is what a reactor did in the period before it was looked at.
type reactorSample struct {
	busy   int // thousandths of the time in which it found work
	queues int // I/O queues it had then
}

// reactorLoad is what counts of a reactor for a queue that comes.
type reactorLoad struct {
	busy   int // as sampled
	sample int // queues that it had then
	queues int // that it has now
	own    int // of these, queues of the same controller
	far    int // 1: the connection's packets come in on another's core
}

// place chooses the reactor of a queue. turn decides between equals: those of a controller have one each.
func place(loads []reactorLoad, turn int) int {
	perQueue := demand(loads)
	best := -1
	var least [5]int
	for i := range loads {
		i = (turn + i) % len(loads)
		l := &loads[i]
		busy := min(1000, max(0, l.busy+perQueue*(l.queues-l.sample)))
		hot := 0
		if busy >= busyHot {
			hot = 1
		}
		if rank := [...]int{hot, l.own, l.far, busy / busyStep, l.queues}; best < 0 || slices.Compare(rank[:], least[:]) < 0 {
			best, least = i, rank
		}
	}
	return best
}

// demand is the share that a queue took of a reactor lately, on the average.
func demand(loads []reactorLoad) int {
	busy, queues := 0, 0
	for i := range loads {
		busy += loads[i].busy
		queues += loads[i].sample
	}
	return busy / max(1, queues)
}

// reactorLoads is what is known of the reactors now.
func (t *Target) reactorLoads() []reactorLoad {
	loads := make([]reactorLoad, t.group.Len())
	if s := t.loads.Load(); s != nil {
		for i := range loads {
			loads[i].busy, loads[i].sample = (*s)[i].busy, (*s)[i].queues
		}
	}
	for i := range loads {
		loads[i].queues = int(t.placed[i].Load())
	}
	return loads
}

// home chooses the reactor of the controller's I/O queue, for a connection whose packets come in on a CPU. It runs on the owner.
func (k *controller) home(qid QID, cpu int) *reactor.Reactor {
	t := k.share.pg.target
	loads := t.reactorLoads()
	for i := range loads {
		if core := t.group.Reactor(i).Core(); t.group.Sockets().ByCPU && (core < 0 || core != cpu) {
			loads[i].far = 1
		}
	}
	for _, l := range k.queues {
		loads[l.home.Index()].own++
	}
	return t.group.Reactor(place(loads, int(k.id)+int(qid)-1))
}
