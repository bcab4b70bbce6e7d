package volume

import (
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/wal"
)

// This file is the model of the simulation: of each block of a volume, which writes could be its value.
//
// Every page that is written says of which volume, of which write and of which block it is, so that nothing can pass for another: an older
// pool's bytes, another volume's, another block's. A write is out when another one came after its end and has ended itself: durably, where
// what a power cut leaves is asked for. One that failed may be there or not, for ever.

// simWord is what a page says, repeated over all of it: origin 16, write 24, block 24. 0 is a page of zeros.
type simWord uint64

func simWordOf(origin uint16, write uint32, block uint64) simWord {
	return simWord(origin)<<48 | simWord(write)<<24 | simWord(block)
}

func (w simWord) String() string {
	return fmt.Sprintf("write %d of volume %d to block %d", w>>24&(1<<24-1), w>>48, w&(1<<24-1))
}

// simFill fills a page.
func simFill(page []byte, w simWord) { fillWord(page[:PageBytes], uint64(w)) }

// simRead reads a page: false if it is not the same word over all of it.
func simRead(page []byte) (simWord, bool) {
	return simWord(le.Uint64(page)), isOneWord(page[:PageBytes])
}

// simWrite is a change of a range that somebody asked for.
type simWrite struct {
	block   uint64
	words   []simWord // of each of its blocks
	begun   int       // ticks of the model
	done    int       // 0: not yet
	durable int
	ok      bool    // it was acknowledged
	without bool    // it is known to have had no effect
	lsn     wal.LSN // its newest record has this one or an older one, if ok
}

func (w *simWrite) end() uint64 { return w.block + uint64(len(w.words)) }

func (w *simWrite) word(block uint64) simWord { return w.words[block-w.block] }

// simContent is what a volume, or whatever else has blocks, may hold.
type simContent struct {
	blocks map[uint64][]*simWrite
	open   []*simWrite // acknowledged, and not known to be durable
}

func newSimContent() *simContent { return &simContent{blocks: map[uint64][]*simWrite{}} }

func (c *simContent) add(w *simWrite) {
	for b := w.block; b < w.end(); b++ {
		c.blocks[b] = append(c.blocks[b], w)
	}
}

// settle takes a content that was read for what is there: nothing else can be from now on. Where an older state may come back, what that may
// have is kept as well; what began after until has never been.
func (c *simContent) settle(tick, until int, lsn wal.LSN, older *simSight, word func(block uint64) simWord) {
	for b, list := range c.blocks {
		var kept []*simWrite
		now, seen := word(b), map[simWord]bool{}
		seen[now] = true
		for _, w := range slices.Backward(list) {
			if w.done == 0 {
				w.done = tick - 1
			}
			if w.begun > until {
				w.without = true
			}
			if older.lost && !w.without && !seen[w.word(b)] && c.allowed(b, w.word(b), *older) {
				seen[w.word(b)] = true
				kept = append(kept, w)
			}
		}
		slices.Reverse(kept)
		c.blocks[b] = append(kept, &simWrite{block: b, words: []simWord{now}, begun: tick, done: tick, durable: tick, ok: true, lsn: lsn})
	}
	c.open = nil
}

// flushed makes durable what was acknowledged before a flush began.
func (c *simContent) flushed(begun, tick int) {
	left := c.open[:0]
	for _, w := range c.open {
		if w.done < begun {
			w.durable = tick
		} else {
			left = append(left, w)
		}
	}
	c.open = left
}

var simBefore = &simWrite{done: 1, durable: 1, ok: true}

// simSight is what somebody may see of a content.
type simSight struct {
	at, until int  // what has ended by `at` must be seen, what begins after `until` cannot
	durable   bool // only what has become durable by `at` must be seen
	lost      bool // only what a checkpoint has must be seen: its LSN is lsn
	lsn       wal.LSN
	ever      bool // the device lies: whatever once was a value of the block may be seen
}

// ended says whether something must be seen that ended and became durable then.
func (s simSight) ended(done, durable int, lsn wal.LSN) bool {
	if s.durable {
		done = durable
	}
	return done > 0 && done <= s.at && (!s.lost || lsn <= s.lsn)
}

// allowed says whether a word could be a block's.
func (c *simContent) allowed(block uint64, word simWord, s simSight) bool {
	list := c.blocks[block]
	could := func(w *simWrite) bool {
		if s.ever {
			return true
		}
		for _, x := range list {
			if x != w && x.ok && s.ended(x.done, x.durable, x.lsn) && w.done > 0 && w.done < x.begun {
				return false
			}
		}
		return true
	}
	if word == 0 && could(simBefore) {
		return true
	}
	for _, w := range list {
		if !w.without && w.word(block) == word && w.begun <= s.until && could(w) {
			return true
		}
	}
	return false
}

// history says what is known of a block.
func (c *simContent) history(block uint64) string {
	s := ""
	list := c.blocks[block]
	for _, w := range list[max(0, len(list)-12):] {
		s += fmt.Sprintf("\n\t%v: blocks %d to %d, begun %d, done %d (ok %v, without effect %v), durable %d",
			w.word(block), w.block, w.end(), w.begun, w.done, w.ok, w.without, w.durable)
	}
	return s
}

// prune forgets what cannot be seen any more, so that a long run does not become slower and slower. Nothing may be under way.
func (c *simContent) prune(s *simSight) {
	for b, list := range c.blocks {
		kept := list[:0]
		for _, w := range list {
			if !w.without && c.allowed(b, w.word(b), *s) {
				kept = append(kept, w)
			}
		}
		c.blocks[b] = kept
	}
}
