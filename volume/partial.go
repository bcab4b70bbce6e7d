package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the door of a volume with blocks of 512 bytes. Inside, a volume has blocks of 4096 bytes only; a request that begins or ends
// within one, or whose memory comes in pieces that do not fit them, is odd and goes through memory of the volume's own:
//
//	read     ─▶ whole blocks to a bounce ─▶ the part that was asked for to the request's memory
//	change   ─▶ claim ─▶ the blocks at its edges are read and get the part that changes ─▶ door ─▶ records of whole blocks ─▶ claim ends
//
// A change claims its blocks from when it comes until all its records are in the dirty map. One that has part of a block waits for those
// before it which have that block, and those after it wait for it: so between its reading and its record nobody changes the block, and
// what it reads has every record before its own. Changes of whole blocks do not wait for each other. Zeroes and trim of a part of a block
// write the block with that part zeroed, or record zeroes if nothing else is left of it.
//
// Who holds an edge needs the door, who holds a bounce the log or the device; no read needs an edge. So all of them come back.
//
// A write of up to bounceBlocks is one record, wherever it begins (V-17).

// Numbers of what a volume with such blocks has.
const (
	bounceBlocks = 16 // of one bounce
	bouncesMax   = 32
	edgesMax     = 64
	edgeBlocks   = 2
)

// Memory of them, in pages.
const partialPages = bouncesMax*bounceBlocks + edgesMax*edgeBlocks

// partialDoor is a volume's.
type partialDoor struct {
	sub    uint // log2 of the device's blocks in a block
	memory []byte

	first, last  *op // claims, in the order in which they came
	partials     int // of them have part of a block
	claimWaiters int // wait for one before them

	bounces       *bounce
	bounceWaiters opList
	edges         *bounce
	edgeWaiters   opList
}

// partialOp is an op's.
type partialOp struct {
	odd        bool
	head, tail bool // it has part of its first, of its last block; of one that is both, head alone
	claimed    bool
	blockers   int // claims before it for which it waits
	prev, then *op // the claims before and after
	edge       *bounce
	bounce     *bounce // of an op that reads into one
}

// bounce is memory of the volume's for an op, with an op of its own that reads into it.
type bounce struct {
	op     op
	req    bdev.Request // the op's: nobody submits it
	parent *op
	next   *bounce
	mem    []byte
	edge   bool
}

// makePartial makes what a volume with such blocks has.
func (v *Volume) makePartial() error {
	if v.page.BlockBytes == PageBytes {
		return nil
	}
	v.sub = 3
	var err error
	if v.memory, err = mapMemory(partialPages); err != nil {
		return err
	}
	rest := v.memory
	list := func(n, blocks int, edge bool) (all *bounce) {
		for _, b := range make([]*bounce, n) {
			b = &bounce{next: all, mem: rest[: blocks*PageBytes : blocks*PageBytes], edge: edge}
			rest = rest[blocks*PageBytes:]
			b.req.Kind = bdev.Read
			o := &b.op
			o.v, o.q, o.bounce = v, &b.req, b
			o.node.init(o)
			all = b
		}
		return all
	}
	v.bounces = list(bouncesMax, bounceBlocks, false)
	v.edges = list(edgesMax, edgeBlocks, true)
	return nil
}

// partly finds out how an op lies in the volume's own blocks.
func (o *op) partly() {
	q, sub := o.q, o.v.sub
	of := uint64(1)<<sub - 1
	end := q.LBA + q.Blocks
	o.block, o.end = q.LBA>>sub, (end+of)>>sub
	o.at = o.block
	o.head, o.tail = q.LBA&of != 0, end&of != 0
	if o.end-o.block == 1 {
		o.head, o.tail = o.head || o.tail, false
	}
	if o.odd = o.head || o.tail; o.odd || q.Kind != bdev.Read && q.Kind != bdev.Write {
		return
	}
	lengths := 0
	for _, b := range q.Data {
		lengths |= len(b)
	}
	o.odd = lengths%PageBytes != 0
}

// share finds what a request and the blocks from block on in mem have in common: n bytes, from at in the request and from mem[in] on.
func (o *op) share(block uint64, mem []byte) (at, in, n int) {
	first, end := o.q.LBA<<9, (o.q.LBA+o.q.Blocks)<<9
	from := block * PageBytes
	lo, hi := max(first, from), min(end, from+uint64(len(mem)))
	return int(lo - first), int(lo - from), int(hi - lo)
}

// toHost copies what mem has of the request to its memory, fromHost the other way.
func (o *op) toHost(block uint64, mem []byte) {
	at, in, n := o.share(block, mem)
	mem = mem[in : in+n]
	for _, b := range o.q.Data {
		if at >= len(b) {
			at -= len(b)
			continue
		}
		mem = mem[copy(b[at:], mem):]
		at = 0
		if len(mem) == 0 {
			break
		}
	}
}

func (o *op) fromHost(block uint64, mem []byte) {
	at, in, n := o.share(block, mem)
	mem = mem[in : in+n]
	for _, b := range o.q.Data {
		if at >= len(b) {
			at -= len(b)
			continue
		}
		mem = mem[copy(mem, b[at:]):]
		at = 0
		if len(mem) == 0 {
			break
		}
	}
}

// readOdd issues what it can of a read that goes through bounces.
func (v *Volume) readOdd(o *op) {
	for o.at < o.end && o.status == bdev.StatusOK {
		b := v.bounces
		if b == nil {
			v.bounceWaiters.push(o)
			return
		}
		v.bounces = b.next
		n := min(o.end-o.at, bounceBlocks)
		b.parent = o
		o.out++
		b.read(o.at, b.mem[:n*PageBytes])
		o.at += n
	}
	o.issued()
}

// read reads blocks into mem, which is the bounce's.
func (b *bounce) read(block uint64, mem []byte) {
	o := &b.op
	o.tree, o.status, o.out = b.parent.tree, bdev.StatusOK, 1
	o.block, o.at, o.end = block, block, block+uint64(len(mem))/PageBytes
	o.phase = o.v.grace.enter()
	b.req.SetData(mem)
	o.v.read(o)
}

// readEnd takes the end of a read.
func (b *bounce) readEnd(s bdev.Status) {
	o := b.parent
	if b.edge {
		b.edgeRead(s)
		return
	}
	if s == bdev.StatusOK {
		o.toHost(b.op.block, b.req.Data[0])
	}
	o.v.giveBounce(b)
	o.ended(s)
}

// giveBounce gives one back, and lets who waits for one go on.
func (v *Volume) giveBounce(b *bounce) {
	b.parent, b.next = nil, v.bounces
	v.bounces = b
	if o := v.bounceWaiters.pop(); o == nil {
		return
	} else if o.q.Kind == bdev.Read {
		v.readOdd(o)
	} else {
		v.change(o)
	}
}

// partial says whether a block is one of which the op has a part.
func (o *op) partial(block uint64) bool {
	return o.head && block == o.block || o.tail && block == o.end-1
}

// excludes says whether one of two ops has part of a block that the other one changes too.
func (o *op) excludes(p *op) bool {
	has := func(a, b *op) bool {
		return a.head && b.block <= a.block && a.block < b.end || a.tail && b.block < a.end && a.end <= b.end
	}
	return has(o, p) || has(p, o)
}

// claim lets a change wait for those before it, if it must, and come to the door.
func (v *Volume) claim(o *op) {
	o.claimed, o.blockers = true, 0
	if v.partials > 0 || o.head || o.tail {
		for p := v.last; p != nil; p = p.prev {
			if p.excludes(o) {
				o.blockers++
			}
		}
	}
	if o.head || o.tail {
		v.partials++
	}
	o.prev, o.then = v.last, nil
	if v.last == nil {
		v.first = o
	} else {
		v.last.then = o
	}
	if v.last = o; o.blockers > 0 {
		v.claimWaiters++
		return
	}
	v.claimGranted(o)
}

// unclaim ends a claim: all records of the op are in the dirty map, or there are none.
func (v *Volume) unclaim(o *op) {
	o.claimed = false
	if o.head || o.tail {
		v.partials--
	}
	if o.prev == nil {
		v.first = o.then
	} else {
		o.prev.then = o.then
	}
	if o.then == nil {
		v.last = o.prev
	} else {
		o.then.prev = o.prev
	}
	after := o.then
	o.prev, o.then = nil, nil
	if o.edge != nil {
		v.giveEdge(o)
	}
	for p := after; p != nil && v.claimWaiters > 0; {
		next := p.then
		if p.blockers > 0 && p.excludes(o) {
			if p.blockers--; p.blockers == 0 {
				v.claimWaiters--
				v.claimGranted(p)
			}
		}
		p = next
	}
}

// claimGranted goes on with a change whose blocks nobody before it changes any more.
func (v *Volume) claimGranted(o *op) {
	if !o.head && !o.tail {
		v.admit(o)
		return
	}
	b := v.edges
	if b == nil {
		v.edgeWaiters.push(o)
		return
	}
	v.edges = b.next
	b.parent, o.edge = o, b
	first := o.block
	if !o.head {
		first = o.end - 1
	}
	b.read(first, b.of(first))
}

// of is the memory for one of the parent's edges.
func (b *bounce) of(block uint64) []byte {
	if block == b.parent.block {
		return b.mem[:PageBytes]
	}
	return b.mem[PageBytes:]
}

// edgeRead takes a block that was read, and puts what changes into it.
func (b *bounce) edgeRead(s bdev.Status) {
	o, block := b.parent, b.op.block
	if s != bdev.StatusOK {
		o.fail(s)
		o.issued()
		return
	}
	page := b.of(block)
	if o.q.Kind == bdev.Write {
		o.fromHost(block, page)
	} else {
		_, in, n := o.share(block, page)
		clear(page[in : in+n])
	}
	if last := o.end - 1; o.tail && block != last {
		b.read(last, b.of(last))
		return
	}
	o.v.admit(o)
}

func (v *Volume) giveEdge(o *op) {
	b := o.edge
	o.edge = nil
	b.parent, b.next = nil, v.edges
	v.edges = b
	if w := v.edgeWaiters.pop(); w != nil {
		v.claimGranted(w)
	}
}

// cutOdd says how many blocks the next record of an odd change has, and what it is.
func (v *Volume) cutOdd(o *op) (blocks uint64, kind wal.Kind) {
	if o.q.Kind == bdev.Write {
		end := o.at
		if o.partial(end) {
			end++
		}
		end = min(end+bounceBlocks, o.end)
		if o.tail && end == o.end-1 {
			end++
		}
		return end - o.at, wal.KindWrite
	}
	if o.partial(o.at) {
		kind = wal.KindWrite
		if isZero(o.edge.of(o.at)) {
			kind = wal.KindZeroes
		}
		return 1, kind
	}
	end := o.end
	if o.tail {
		end--
	}
	per := uint64(v.shape.Blocks())
	return min(end-o.at, -o.at&(per-1)+trimClustersMax*per), recordKind(o.q.Kind, false)
}

// wholes are those of n blocks that an odd write changes as a whole.
func (o *op) wholes(n uint64) (first, end uint64) {
	first, end = o.at, o.at+n
	if o.partial(first) {
		first++
	}
	if end > first && o.partial(end-1) {
		end--
	}
	return first, end
}

// lacks lets an odd write wait for a bounce that its next n blocks need, if there is none.
func (v *Volume) lacks(o *op, n uint64, kind wal.Kind) bool {
	if first, end := o.wholes(n); kind != wal.KindWrite || first == end || v.bounces != nil {
		return false
	}
	v.bounceWaiters.push(o)
	return true
}

// gather makes the payload of n blocks of an odd change: its edges, and whole blocks between them.
func (v *Volume) gather(o *op, s *segment, n uint64) {
	first, end := o.wholes(n)
	if first > o.at {
		s.e.Payload = append(s.e.Payload, o.edge.of(o.at))
	}
	if first < end {
		b := v.bounces
		v.bounces = b.next
		s.bounce = b
		mem := b.mem[:(end-first)*PageBytes]
		o.fromHost(first, mem)
		s.e.Payload = append(s.e.Payload, mem)
	}
	if end < o.at+n {
		s.e.Payload = append(s.e.Payload, o.edge.of(end))
	}
}

// closePartial gives the memory back.
func (v *Volume) closePartial() {
	if v.memory == nil {
		return
	}
	invariant.Check(v.first == nil, "volume: closed with claims")
	unmapMemory(v.memory)
	v.memory = nil
}

func isZero(b []byte) bool {
	for ; len(b) > 0; b = b[8:] {
		if le.Uint64(b) != 0 {
			return false
		}
	}
	return true
}
