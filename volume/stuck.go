package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what closing does about a device that does not answer (V-50). It waits as long as requests end; when one has not ended for
// closeLimit, who closes does not wait any longer:
//
//	given up ─▶ requests of hosts end with StatusClosed, but for those whose memory the device still has
//	         ─▶ nothing more is sent to the device: no write of a log, home, map or slot, whatever comes back
//	         ─▶ who closes is told which device has what; no clean mark is written, and the next import recovers
//	         ─▶ when the device has answered everything, the rest is given back and the device let go
//
// So the device writes into no memory that somebody else has meanwhile, and nobody else opens it before it has ended what it was given.
// Making and opening do the same (stuckopen.go), and have more patience.

// ErrStuck ends the closing of what stands on a device that does not answer.
var ErrStuck = errors.New("the device does not answer")

// closeLimit is how long a device may keep a request while a volume or a pool is being closed.
const closeLimit = 5 * time.Second

// vigil watches devices while control work waits for them.
type vigil struct {
	group     *reactor.Group
	watched   func() [2][]*bdev.Channel // by reactor, of each device
	simulated bool
	began     time.Time
	limit     time.Duration
	ending    <-chan struct{} // once it is closed, nobody waits longer than hasty
	hasty     time.Duration
	next      string // what to do about a device that does not answer
}

// vigil watches the devices of a pool while it, or a volume of it, is being closed.
func (p *Pool) vigil() *vigil {
	g := p.cfg.vigil(p.registry.Group(), p.devices)
	g.limit, g.next = g.hasty, "the next import recovers what is in the log"
	return g
}

// devices are the channels of the pool's device, and of that of its logs.
func (p *Pool) devices() [2][]*bdev.Channel {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watched
}

// during runs f, and returns its error, or ErrStuck if a device does not answer: f then goes on alone. A simulation waits for f.
func (g *vigil) during(f func() error) error {
	if g.simulated {
		return f()
	}
	over := make(chan error, 1)
	go func() { over <- f() }()
	look := time.NewTicker(max(min(g.limit, g.hasty)/16, time.Millisecond))
	defer look.Stop()
	for {
		select {
		case err := <-over:
			return err
		case <-look.C:
		}
		if err := g.stuck(); err != nil {
			select {
			case err := <-over: // at the same time
				return err
			default:
				return err
			}
		}
	}
}

// patience is how long a request is waited for.
func (g *vigil) patience() time.Duration {
	select {
	case <-g.ending:
		return min(g.limit, g.hasty)
	default:
		return g.limit
	}
}

// stuck says which device has not answered, nil if none.
func (g *vigil) stuck() error {
	limit := g.patience()
	if time.Since(g.began) < limit {
		return nil
	}
	for _, channels := range g.watched() {
		var worst bdev.Late
		n := 0
		for i, c := range channels {
			var l bdev.Late
			r := g.group.Reactor(i)
			if err := r.Call(func() { l = c.Late(r.Now() - reactor.Ticks(limit)) }); err != nil {
				return err
			}
			if n += l.N; l.N > 0 && (worst.N == 0 || l.Since < worst.Since) {
				worst = l
			}
		}
		if n > 0 {
			return fmt.Errorf("%w: %s has had %d requests for more than %v, the oldest a %v of %d blocks at %d; %s",
				ErrStuck, channels[0].Device().Name(), n, limit, worst.Kind, worst.Blocks, worst.LBA, g.next)
		}
	}
	return nil
}

// closeVolume takes the devices of a volume and its snapshots away, and waits until everything is home. If the device below does not
// answer, the volume is given up: what is left of it ends by itself when the device does.
func (p *Pool) closeVolume(ctx context.Context, g *vigil, v *Volume) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := g.during(func() error { return v.remove(ctx) })
	if !errors.Is(err, ErrStuck) {
		return err
	}
	if e := v.r.Call(v.giveUp); e != nil {
		return e
	}
	return fmt.Errorf("closing volume %s: %w", v.Name(), err)
}

// remove takes the devices of a volume away.
func (v *Volume) remove(ctx context.Context) error {
	if err := v.closeSnapshots(ctx); err != nil {
		return err
	}
	if err := v.pool.registry.Unregister(ctx, v.device.Name()); err != nil && !errors.Is(err, bdev.ErrNotFound) {
		return err
	}
	return nil
}

// giveUp lets nothing of the volume begin any more, and ends what can end without the device.
func (v *Volume) giveUp() {
	if v.given {
		return
	}
	v.given, v.parting = true, false
	if v.failed == bdev.StatusOK {
		v.failed = bdev.StatusClosed
	}
	v.scrub.ask(scrubCloses)
	v.shutDoor()
	v.flusher.close()
	v.log.Fail(bdev.StatusClosed)
	v.ckpt.tell(bdev.StatusClosed)
	v.roomFreed()
	if v.flusher.state == flushEnded {
		v.forced()
	}
	v.checkIdle()
}

// rested is the volume as it hears that its log, which has ended, has nothing on its way any more.
type rested Volume

// Run tells who closes it.
func (v *rested) Run() { (*Volume)(v).checkIdle() }

// giveUp lets the pool make no commit any more, and lets its device go when that has answered everything.
func (p *Pool) giveUp() {
	_ = p.r.Call(func() {
		if c := &p.committer; c.failed == bdev.StatusOK {
			c.failed = bdev.StatusClosed
		}
	})
	volumes := p.Volumes()
	go func() {
		for _, v := range volumes {
			_ = v.remove(context.Background())
		}
		_ = p.change(&commitMessage{}) // is refused, when the commit that is under way has ended
		p.release()
	}()
}

// lockActs takes acts. The one who has them may wait for a device that does not answer.
func (p *Pool) lockActs(g *vigil) error {
	if g.simulated {
		p.acts.Lock()
		return nil
	}
	if p.acts.TryLock() {
		return nil
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		if p.acts.TryLock() {
			return nil
		}
		if err := g.stuck(); err != nil {
			return fmt.Errorf("waiting for another act on it: %w", err)
		}
	}
	return nil
}
