package initiator

import (
	"fmt"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the host's side of keep-alive. Base Specification 2.0, "Keep Alive": the controller ends an association that
// sends nothing for KATO. Where it counts every command (CTRATT.TBKAS) a Keep Alive is sent only when nothing was answered
// for a quarter of KATO; otherwise one every half. What decides is what was answered, not what was sent: so a target that
// answers nothing any more is asked, and found out when it does not answer that either within KATO.

// keeper keeps one association alive. It is on the reactor of the Admin queue.
type keeper struct {
	r       *reactor.Reactor
	a       *association
	kato    reactor.Ticks
	traffic bool          // TBKAS
	period  reactor.Ticks // between looks
	every   reactor.Ticks // how often the shares report

	timer reactor.Timer
	heard reactor.Ticks // when something was last answered
	asked reactor.Ticks // when the Keep Alive was sent
	open  bool          // it was not answered yet
}

// start begins. Without a timeout it only serves to be told.
func (k *keeper) start(a *association) {
	k.r, k.a, k.kato = a.home, a, ticks(a.o.KeepAlive)
	k.traffic = a.id.CTRATT&nvmf.CTRATTTBKAS != 0
	k.every = max(k.kato/8, reactor.Second/8)
	if k.kato == 0 {
		k.every = 1 << 62
		return
	}
	if k.period = k.kato / 2; k.traffic {
		k.period = k.kato / 4
	}
	k.heard = k.r.Now()
	k.r.SetTimer(&k.timer, k.heard+k.period, k)
}

func (k *keeper) stop() {
	if k.r != nil {
		k.r.StopTimer(&k.timer)
	}
}

// Receive hears from a share that the target answers.
func (k *keeper) Receive(r *reactor.Reactor) { k.heard = r.Now() }

// Run looks whether a Keep Alive is due, or overdue.
func (k *keeper) Run() {
	now, q := k.r.Now(), k.a.admin
	switch {
	case q.state != queueOpen:
		return
	case k.open && now-k.asked >= k.kato:
		q.fail(fmt.Errorf("%v: no answer to Keep Alive in %v", q, ticksText(k.kato)))
		return
	case !k.open && (!k.traffic || now-k.heard >= k.period):
		if c := q.acquire(k); c != nil {
			c.patient = true // judged here
			c.sqe.Init(uint8(nvmf.AdminKeepAlive), 0, 0)
			k.open, k.asked = true, now
			q.start(c)
		}
	}
	k.r.SetTimer(&k.timer, now+k.period, k)
}

// answered takes the answer to a Keep Alive. What it says is no matter: the target is there.
func (k *keeper) answered(nvmf.CQE) { k.open, k.heard = false, k.r.Now() }

// lost hears that the Admin queue ended.
func (k *keeper) lost(bool) { k.open = false }
