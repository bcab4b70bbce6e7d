package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a client of the simulation: it does one thing at a time and holds what it hears against the model.

type simClient struct {
	*client
	s      *simulation
	x      *simVolume
	handle *bdev.Handle
	busy   bool
	quiet  bool      // the test itself reads
	write  *simWrite // what it does, if that is a change
	expect simWord   // of a compare-and-write
	begun  int
	data   []byte
	data2  []byte
}

func newSimClient(s *simulation, x *simVolume, core int) *simClient {
	s.t.Helper()
	c := &simClient{s: s, x: x, client: &client{h: s.house, r: s.w.Reactor(core)}, data: pageMemory(simRequestPages), data2: pageMemory(8)}
	var err error
	if c.handle, err = s.w.Registry.Open(x.v.Device().Name(), bdev.OpenOptions{Who: "simulation"}); err != nil {
		s.t.Fatal(err)
	}
	s.w.On(core, func(r *reactor.Reactor) { c.c, err = c.handle.Channel(r) })
	if err != nil {
		s.t.Fatal(err)
	}
	c.q.Done = c
	return c
}

func (c *simClient) close() {
	c.s.w.On(c.r.Index(), func(*reactor.Reactor) {
		c.q.Release()
		c.c.Close()
	})
	c.handle.Close()
}

// do does something for the test itself, and gives the status.
func (c *simClient) do(kind bdev.Kind, block, n uint64, data []byte) bdev.Status {
	c.s.t.Helper()
	c.quiet = true
	c.submit(kind, block, n, 0, false, data, nil)
	c.s.w.Run("the test has read", func() bool { return !c.busy })
	c.quiet = false
	return c.q.Status
}

func (c *simClient) must(kind bdev.Kind, block, n uint64, data []byte) {
	c.s.t.Helper()
	if st := c.do(kind, block, n, data); st != bdev.StatusOK {
		c.s.t.Fatalf("%v of %d blocks at %d of volume %s: %v", kind, n, block, c.x.name, st)
	}
}

func (c *simClient) submit(kind bdev.Kind, block, n, from uint64, fua bool, data, data2 []byte) {
	c.busy = true
	c.s.tick++
	c.begun = c.s.tick
	if c.write != nil {
		c.write.begun = c.begun
		c.x.content.add(c.write)
	}
	c.s.w.On(c.r.Index(), func(*reactor.Reactor) {
		c.q.Kind, c.q.LBA, c.q.LBA2, c.q.Blocks, c.q.FUA = kind, block, from, n, fua
		c.q.Data, c.q.Data2 = nil, nil
		if data != nil {
			c.q.SetData(data)
		}
		if data2 != nil {
			c.q.Data2 = [][]byte{data2}
		}
		c.c.Submit(&c.q)
	})
}

// words makes up the words of a new write.
func (c *simClient) words(block, n uint64) []simWord {
	c.s.writes++
	words := make([]simWord, n)
	for i := range words {
		words[i] = simWordOf(c.x.origin, c.s.writes, block+uint64(i))
	}
	return words
}

func (c *simClient) read(block, n uint64) {
	c.write = nil
	c.submit(bdev.Read, block, n, 0, false, c.data[:n*PageBytes], nil)
}

func (c *simClient) flush() {
	c.write = nil
	c.submit(bdev.Flush, 0, 0, 0, false, nil, nil)
}

func (c *simClient) put(block, n uint64, fua bool) {
	c.write = &simWrite{block: block, words: c.words(block, n)}
	for i, w := range c.write.words {
		simFill(c.data[i*PageBytes:][:PageBytes], w)
	}
	c.submit(bdev.Write, block, n, 0, fua, c.data[:n*PageBytes], nil)
}

func (c *simClient) zero(kind bdev.Kind, block, n uint64, fua bool) {
	c.write = &simWrite{block: block, words: make([]simWord, n)}
	c.submit(kind, block, n, 0, fua, nil, nil)
}

// swap writes a block if it holds what the model believes to be there. Of more, nobody knows what they hold together.
func (c *simClient) swap(block uint64, fua bool) {
	list := c.x.content.blocks[block]
	c.expect = 0
	if len(list) > 0 {
		c.expect = list[len(list)-1].word(block)
	}
	c.write = &simWrite{block: block, words: c.words(block, 1)}
	simFill(c.data[:PageBytes], c.expect)
	simFill(c.data2[:PageBytes], c.write.words[0])
	c.submit(bdev.CompareAndWrite, block, 1, 0, fua, c.data[:PageBytes], c.data2[:PageBytes])
}

// copy copies what nobody changes meanwhile.
func (c *simClient) copy(to, from, n uint64) {
	st := c.do(bdev.Read, from, n, c.data[:n*PageBytes])
	if st != bdev.StatusOK {
		c.s.mayFail("reading what is to be copied", bdev.Read, c.x, st)
		return
	}
	w := &simWrite{block: to, words: make([]simWord, n)}
	for i := range w.words {
		w.words[i], _ = simRead(c.data[i*PageBytes:][:PageBytes])
	}
	c.write = w
	c.submit(bdev.Copy, to, n, from, false, nil, nil)
	c.s.w.Run("a copy is done", func() bool { return !c.busy })
}

// RequestDone holds the end of a request against the model.
func (c *simClient) RequestDone(q *bdev.Request) {
	s := c.s
	c.busy = false
	s.tick++
	if c.quiet {
		return
	}
	w := c.write
	c.write = nil
	switch {
	case q.Status == bdev.StatusOK:
	case q.Kind == bdev.CompareAndWrite && q.Status == bdev.StatusMiscompare:
		w.done, w.without = s.tick, true
		return
	default:
		s.mayFail("a client's request", q.Kind, c.x, q.Status)
		if w != nil {
			w.done = s.tick
		}
		return
	}
	switch q.Kind {
	case bdev.Read:
		s.compare("a read", c.x, c.x.content, q.LBA, c.data[:q.Blocks*PageBytes], simSight{at: c.begun, until: s.tick, ever: s.after})
		return
	case bdev.Flush:
		c.x.content.flushed(c.begun, s.tick)
		return
	case bdev.CompareAndWrite:
		if !c.x.content.allowed(q.LBA, c.expect, simSight{at: c.begun, until: s.tick, ever: s.after}) && (c.x.verify || !s.lied) {
			s.t.Fatalf("block %d of volume %s was found to be %v, which it cannot be: %s", q.LBA, c.x.name, c.expect, c.x.content.history(q.LBA))
		}
	}
	w.done, w.ok, w.lsn = s.tick, true, c.x.appended()
	if q.FUA || c.x.cache == CacheNone {
		w.durable = s.tick
	} else {
		c.x.content.open = append(c.x.content.open, w)
	}
}
