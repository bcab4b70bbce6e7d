//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import "syscall"

// This file is cards that are pulled out, or fail, while the engine runs: in this order it is told of them, all that was made on them is destroyed,
// and they are closed. The kernel may wait for the last of these before it lets the card go: that of Linux 6.12 does for Soft-RoCE.

// goes says that the card is gone.
func (c *card) goes() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goesLocked()
}

func (c *card) goesLocked() {
	c.gone = true
	c.retireLocked()
}

// begins counts what is about to be made.
func (c *card) begins(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.gone {
		return c.failure(what+" on a card that is gone", C.int(syscall.ENODEV))
	}
	c.made++
	return nil
}

// ends counts what was not made after all, or is destroyed.
func (c *card) ends() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endsLocked()
}

func (c *card) endsLocked() {
	c.made--
	c.retireLocked()
}

func (c *card) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

func (c *card) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// retireLocked closes a card that is gone, when nothing is made on it. It has a goroutine of its own: whoever notices may be reading the events of the
// card, which have to end, or hold what others wait for.
func (c *card) retireLocked() {
	if c.gone && !c.retiring && !c.closed && c.made == 0 {
		c.retiring = true
		c.p.retiring.Go(func() { c.p.retire(c) })
	}
}

// retire closes a card, and lets librdmacm close it. librdmacm closes what is gone when nobody holds a list with it, and finds out what is gone
// when it is asked for a list; the cards that are still there are held by that one.
func (p *provider) retire(c *card) {
	if c.close() != nil {
		return // it is held, and closed with the process
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	old := p.lists
	p.lists = nil
	if _, err := p.refresh(true); err != nil {
		p.lists = append(p.lists, old...)
		return
	}
	for _, l := range old {
		C.s_free_devices(p.lib, l)
	}
}
