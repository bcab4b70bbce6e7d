package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the life of an attached controller, which is a goroutine:
//
//	connecting    the first time, on the goroutine that attaches it
//	connected     events are handled, until a queue is lost or someone asks for an end or a reset
//	reconnecting  requests wait; attempts follow one another until one succeeds or LossTimeout has passed
//	disabled      there is no connection until someone asks for one; requests fail
//	detaching     the devices go
//	gone
//
// What happens to requests when a connection ends, in this order:
//
//  1. every share holds its requests
//  2. if the Admin queue still answers, the controller is disabled: it drops what it has of ours
//  3. every connection is closed; then what was open on it is kept to be sent again, or fails (request.go, lost)
//  4. there is a new association, and the shares send: first what was kept, then what waited
//
// Step 2 keeps a write of the old association from being done after one of the new. Where the target does not answer any more
// nothing but time could, and like Linux we do not wait: TP 4129 knows of this.

// State is where a controller stands.
type State uint8

// The states.
const (
	StateConnecting State = iota
	StateConnected
	StateResetting
	StateReconnecting
	StateDisabled
	StateDetaching
	StateGone
)

// The names are those that SPDK's bdev_nvme_get_controllers shows.
var stateNames = [...]string{"connecting", "enabled", "resetting", "reconnect_is_delayed", "disabled", "deleting", "deleted"}

// String names the state.
func (s State) String() string { return stateNames[s] }

// Controller is an attached controller.
type Controller struct {
	o        Options
	addr     netip.AddrPort
	registry *bdev.Registry
	group    *reactor.Group
	log      *slog.Logger
	home     int // index of the reactor with the Admin queue; the I/O queues begin with the one after it

	shares []*share

	orders chan *order
	poked  chan struct{} // something is to be looked at again
	ended  chan struct{} // closed when the controller is gone

	mu      sync.Mutex
	state   State
	devices map[nvmf.NSID]*device
	a       *association // nil while there is none
	losses  int          // connections lost
	last    error        // why the last one was
}

// order is what someone asks of the goroutine.
type order struct {
	kind             orderKind
	hostKey, ctrlKey *nvmf.AuthKey // of orderKeys
	done             chan error    // hears once
}

type orderKind uint8

const (
	orderReset   orderKind = iota // connect anew, now
	orderEnable                   // the same, of one that is disabled
	orderKeys                     // authenticate with other keys
	orderDisable                  // disconnect, and stay so
	orderDetach                   // end
)

// interrupts reports whether the order ends attempts to connect.
func (o *order) interrupts() bool { return o.kind >= orderDisable }

func newController(o Options, addr netip.AddrPort, reg *bdev.Registry, log *slog.Logger, home int) *Controller {
	c := &Controller{
		o: o, addr: addr, registry: reg, group: reg.Group(), log: log, home: home,
		orders: make(chan *order), poked: make(chan struct{}, 1), ended: make(chan struct{}), devices: map[nvmf.NSID]*device{},
	}
	for _, r := range c.group.Reactors() {
		c.shares = append(c.shares, newShare(r, o.Retries))
	}
	return c
}

func (c *Controller) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

func (c *Controller) move(to State) {
	c.mu.Lock()
	c.state = to
	c.mu.Unlock()
}

// begin connects for the first time. On an error nothing is left.
func (c *Controller) begin(ctx context.Context) error {
	a, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err = c.scan(ctx, a); err == nil {
		err = c.live(a)
	}
	if err != nil {
		c.detach(a)
		return err
	}
	go c.run(a)
	return nil
}

// connect makes an association.
func (c *Controller) connect(ctx context.Context) (*association, error) {
	n := c.group.Len()
	a := newAssociation(&c.o, c.log, c.addr, c.group, c.home%n, (c.home+1)%n)
	return a, a.connect(ctx)
}

// live lets requests go to a new association, when the devices are in line with it: not before, since they are for the
// namespaces that there were.
func (c *Controller) live(a *association) error {
	c.mu.Lock()
	c.state, c.a = StateConnected, a
	c.mu.Unlock()
	by := make([][]*queue, c.group.Len())
	for _, q := range a.io {
		by[q.r.Index()] = append(by[q.r.Index()], q)
	}
	return c.group.Each(func(r *reactor.Reactor) {
		var via *share
		if len(by[r.Index()]) == 0 {
			via = c.shares[a.io[r.Index()%len(a.io)].r.Index()]
		}
		c.shares[r.Index()].resume(a, by[r.Index()], via)
	})
}

// drop ends an association; requests wait.
func (c *Controller) drop(a *association) {
	_ = c.group.Each(func(r *reactor.Reactor) { c.shares[r.Index()].hold() })
	ctx, cancel := context.WithTimeout(context.Background(), min(quiesceTimeout, c.o.AdminTimeout))
	if a.alive() {
		if err := a.disable(ctx, quiesceTimeout); err != nil {
			c.log.Debug("a controller could not be disabled", "controller", c.o.Name, "error", err)
		}
	}
	cancel()
	a.close()
	c.mu.Lock()
	c.a = nil
	c.mu.Unlock()
}

// quiesceTimeout is how long a controller that is given up gets to drop what it has of ours.
const quiesceTimeout = time.Second

// alive reports whether the Admin queue may still answer.
func (a *association) alive() (open bool) {
	_ = a.home.Call(func() { open = a.admin.state == queueOpen })
	return open
}

// fail ends requests with st, until there is a connection.
func (c *Controller) fail(st bdev.Status) {
	_ = c.group.Each(func(r *reactor.Reactor) { c.shares[r.Index()].fail(st) })
}

// run is the goroutine.
func (c *Controller) run(a *association) {
	var o *order
	for {
		var why error
		if o == nil {
			o, why = c.serve(a)
		}
		switch {
		case o != nil && o.kind == orderDetach:
			c.detach(a)
			o.done <- nil
			return
		case o != nil && o.kind == orderDisable:
			a, o = nil, c.disable(a, o)
		default:
			if a, o = c.again(a, why, o); a == nil && o == nil {
				c.detach(nil)
				return
			}
		}
	}
}

// serve handles what happens while there is a connection. It returns an order, or why the connection is lost.
func (c *Controller) serve(a *association) (*order, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case why := <-a.lost:
			c.log.Warn("a connection is lost", "controller", c.o.Name, "why", why)
			return nil, why
		case o := <-c.orders:
			switch o.kind {
			case orderEnable:
				o.done <- nil
			case orderKeys:
				o.done <- c.rekey(ctx, a, o)
			default:
				return o, nil
			}
		case e := <-a.events:
			c.event(ctx, a, e)
		case <-c.poked:
			c.rescan(ctx, a)
		}
	}
}

// disable ends the association, if there is one, and waits for an order that is not to be disabled.
func (c *Controller) disable(a *association, o *order) *order {
	if a != nil {
		c.drop(a)
	}
	c.fail(bdev.StatusNotReady)
	c.move(StateDisabled)
	o.done <- nil
	for {
		switch o = <-c.orders; o.kind {
		case orderDisable:
			o.done <- nil
		case orderKeys:
			c.o.HostKey, c.o.CtrlKey = o.hostKey, o.ctrlKey
			o.done <- nil
		default:
			return o
		}
	}
}

// rekey authenticates every queue again, with other keys. What was proved before holds until then; if it fails the target ends
// the connection.
func (c *Controller) rekey(ctx context.Context, a *association, o *order) error {
	c.o.HostKey, c.o.CtrlKey = o.hostKey, o.ctrlKey
	for _, q := range append([]*queue{a.admin}, a.io...) {
		if !q.proved {
			continue // the target did not ask for it
		}
		ctx, cancel := a.step(ctx)
		err := a.authenticate(ctx, q)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// event handles an event of the target.
func (c *Controller) event(ctx context.Context, a *association, e nvmf.Event) {
	var err error
	switch {
	case e == nvmf.EventNamespaces:
		// The page says which, but a scan of all is what Linux does too; reading it lets the next event come.
		_, err = a.logPage(ctx, nvmf.LIDChanged, nvmf.ChangedBytes)
		c.rescan(ctx, a)
	case e == nvmf.EventANA:
		var states map[nvmf.NSID]nvmf.ANAState
		states, err = a.anaStates(ctx)
		c.mu.Lock()
		for id, d := range c.devices {
			if s, ok := states[id]; ok {
				d.ana = s
			}
		}
		c.mu.Unlock()
	default:
		c.log.Info("a target tells of something", "controller", c.o.Name, "type", e.Type, "info", e.Info, "page", e.Page)
	}
	if err != nil {
		c.log.Warn("an event could not be handled", "controller", c.o.Name, "event", e, "error", err)
	}
	a.armEvent()
}

func (c *Controller) rescan(ctx context.Context, a *association) {
	if err := c.scan(ctx, a); err != nil {
		c.log.Warn("the namespaces could not be scanned", "controller", c.o.Name, "error", err)
	}
}

// again makes a new association in place of one that is lost, or is to be reset. It gives nil when there is no hope, or with an
// order that ends the attempts.
func (c *Controller) again(a *association, why error, asked *order) (*association, *order) {
	lost, stop := after(c.o.LossTimeout)
	defer stop()
	fast, stop := after(c.o.FastIOFail)
	defer stop()
	c.mu.Lock()
	if c.state = StateResetting; why != nil {
		c.state = StateReconnecting
		c.losses++
		c.last = why
	}
	c.mu.Unlock()
	if a != nil {
		c.drop(a)
	}
	for delay := firstDelay; ; delay = min(2*delay, c.o.ReconnectDelay) {
		next, o, err := c.attempt(lost, fast)
		if asked != nil {
			asked.done <- err
			asked = nil
		}
		switch {
		case o != nil:
			return nil, o
		case err == nil:
			return next, nil
		case final(err), c.o.LossTimeout == 0, errors.Is(err, errGivenUp):
			c.log.Error("a controller is given up", "controller", c.o.Name, "error", err)
			return nil, nil
		}
		c.log.Warn("a connection could not be made", "controller", c.o.Name, "error", err, "next", delay)
		c.move(StateReconnecting)
		o, given := c.pause(delay, lost, fast)
		switch {
		case given:
			return nil, nil
		case o == nil:
		case o.interrupts():
			return nil, o
		default:
			asked = o
		}
	}
}

// after is a timer that may be none.
func after(d time.Duration) (<-chan time.Time, func() bool) {
	if d <= 0 {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(d)
	return t.C, t.Stop
}

// firstDelay is the wait after the first attempt that failed; the next ones grow.
const firstDelay = 100 * time.Millisecond

// errGivenUp says that LossTimeout has passed.
var errGivenUp = errors.New("it was away for too long (ctrlr_loss_timeout_sec)")

// attempt tries to connect, while it listens to the timers and to orders. One to connect is what it does anyway and hears its
// end; one that interrupts ends it and comes back.
func (c *Controller) attempt(lost, fast <-chan time.Time) (*association, *order, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	type result struct {
		a   *association
		err error
	}
	tried := make(chan result, 1)
	go func() {
		a, err := c.connect(ctx)
		if err == nil {
			if err = c.scan(ctx, a); err != nil {
				c.drop(a)
			}
		}
		tried <- result{a, err}
	}()
	var interrupt *order
	var others []*order
	for {
		select {
		case r := <-tried:
			if cause := context.Cause(ctx); r.err != nil && cause != nil {
				r.err = cause
			}
			if r.err == nil {
				if interrupt == nil {
					r.err = c.live(r.a) // here, where fast cannot come after it
				}
				if interrupt != nil || r.err != nil {
					c.drop(r.a)
				}
			}
			for _, o := range others {
				o.done <- r.err
			}
			return r.a, interrupt, r.err
		case <-fast:
			c.fail(bdev.StatusNotReady)
		case <-lost:
			cancel(errGivenUp)
		case o := <-c.orders:
			switch {
			case o.kind == orderKeys, o.interrupts() && interrupt != nil:
				o.done <- fmt.Errorf("controller %s: it is connecting: %w", c.o.Name, bdev.ErrBusy)
			case o.interrupts():
				interrupt = o
				cancel(errClosed)
			default:
				others = append(others, o)
			}
		}
	}
}

// pause waits before the next attempt. An order ends it; given says that LossTimeout did.
func (c *Controller) pause(delay time.Duration, lost, fast <-chan time.Time) (o *order, given bool) {
	// Some jitter: a target that comes back is not to hear from all its hosts at once.
	wait := time.NewTimer(delay - time.Duration(rand.Int64N(int64(delay)/8+1)))
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
			return nil, false
		case <-fast:
			c.fail(bdev.StatusNotReady)
		case <-lost:
			c.log.Error("a controller is given up", "controller", c.o.Name, "error", errGivenUp)
			return nil, true
		case o := <-c.orders:
			if o.kind != orderKeys {
				return o, false
			}
			c.o.HostKey, c.o.CtrlKey = o.hostKey, o.ctrlKey
			o.done <- nil
			return nil, false
		}
	}
}

// final reports whether no later attempt can succeed: the target refuses this host with DNR, as Linux judges it, or it is not
// the target that was authenticated.
func final(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Status.DNR() || errors.As(err, new(*nvmf.AuthError))
}

// detach removes the devices and ends the association, if there is one.
func (c *Controller) detach(a *association) {
	c.move(StateDetaching)
	if a == nil {
		c.fail(bdev.StatusGone)
	}
	for _, d := range c.list() {
		c.remove(d, "its controller is detached")
	}
	var lost <-chan error
	if a != nil {
		lost = a.lost
	}
	for len(c.list()) > 0 {
		select {
		case <-c.poked:
		case o := <-c.orders:
			o.done <- fmt.Errorf("controller %s: it is being detached: %w", c.o.Name, bdev.ErrBusy)
		case why := <-lost:
			c.log.Warn("a connection is lost while its controller is detached", "controller", c.o.Name, "why", why)
			c.fail(bdev.StatusGone)
			lost = nil
		}
	}
	if a != nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.o.AdminTimeout)
		if a.alive() {
			if err := a.shutdown(ctx); err != nil {
				c.log.Debug("a controller did not shut down", "controller", c.o.Name, "error", err)
			}
		}
		cancel()
		a.close()
	}
	c.fail(bdev.StatusGone)
	c.mu.Lock()
	c.state, c.a = StateGone, nil
	c.mu.Unlock()
	close(c.ended)
}

// ask hands an order to the goroutine and waits for its end.
func (c *Controller) ask(ctx context.Context, o *order) error {
	o.done = make(chan error, 1)
	select {
	case c.orders <- o:
	case <-c.ended:
		return fmt.Errorf("controller %s: %w", c.o.Name, bdev.ErrNotFound)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
