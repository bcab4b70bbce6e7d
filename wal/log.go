package wal

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the way of a record: Reserve → Append → (gather) → write → EntryWritten, and the marks.
//
//	Append gives the LSN and lines the entry up
//	write, when the last batch has been written: takes what gathered, as far as one batch holds it
//	RequestDone: the batch is written; its entries hear of it in the order of their LSNs
//	through.go: it was written through, and is durable with that; or
//	durable.go: waiters join the next flush

// Config says where a log lies and whose it is.
type Config struct {
	Reactor *reactor.Reactor
	Channel *bdev.Channel // of the device on which it lies, on that reactor
	Barrier *Barrier      // makes durable what was written there
	Data    *Barrier      // and what was written on another device, of which placed writes speak; nil if that is the same
	Extents []Extent
	Volume  uuid.UUID
	Lineage Lineage
	Boot    uuid.UUID      // of this machine since it started: stands in the life that begins
	Rested  reactor.Runner // hears that a log that has ended has nothing on its way any more; nil: nobody does
	Stages  *Stages        // nil but in tests
}

// State is what is known of a log before it is read: where recovery begins.
type State struct {
	Tail    Offset // what is kept of the log begins there; not above Offset
	Offset  Offset // the batch header to be read first
	Life    Life
	Epoch   Epoch
	LSN     LSN // the last before Offset
	Durable LSN // a mark known from elsewhere: below it the log must be whole
}

// phase is what a log is doing.
type phase uint8

const (
	phaseNew     phase = iota // to be read or begun
	phaseReading              // a recovery is under way
	phaseEnding               // read; a life is being begun
	phaseOpen
	phaseFailed // a write or flush failed, or it is wounded: nothing more is appended
	phaseClosed
)

// Log is one log.
type Log struct {
	cfg    Config
	r      *reactor.Reactor
	area   area
	phase  phase
	failed bdev.Status // why, in phaseFailed

	life     Life
	lives    Life // the highest that its ring names
	epoch    Epoch
	head     Offset // where the next batch goes
	tail     Offset // the first that is needed
	promised uint64 // bytes promised to records that have no LSN yet
	reserved uint64 // and to those that are not written yet
	holds    *Hold
	wanted   Offset // how far the tail was allowed to go, but for holds

	appended LSN
	written  LSN
	durable  LSN

	gathered entryList    // have LSNs, not yet written
	flight   entryList    // in the batch that is being written
	request  bdev.Request // FUA: the batch is written through
	page     []byte       // the header of the batch that is being written
	vec      [][]byte
	bytes    uint64 // of that batch
	busy     bool
	sent     reactor.Ticks // when the last batch was given to the device
	kick     reactor.Deferred

	waiters waiterList
	join    Join
	joined  bool   // in a flush
	telling bool   // entries hear that they are written: who then waits for the flush waits for one that has all of the batch
	placed  bool   // a record was appended that speaks of the data's device, since a flush of that was last joined
	onData  bool   // that flush is the data's, and the log's own comes after it
	target  LSN    // which makes this durable
	end     Offset // and everything before it
	flushed Offset // everything before it is durable
	through through

	begin Begun // hears that the life has begun
	stats Stats
}

// Stats counts what a log did.
type Stats struct {
	Records, Batches, Pads uint64
	Bytes                  uint64 // written, headers and pads included
	PayloadBytes           uint64
	Flushes                uint64 // that it joined
	Through                uint64 // batches that needed none
}

// Plus are both together.
func (s Stats) Plus(o Stats) Stats {
	return Stats{s.Records + o.Records, s.Batches + o.Batches, s.Pads + o.Pads, s.Bytes + o.Bytes, s.PayloadBytes + o.PayloadBytes, s.Flushes + o.Flushes, s.Through + o.Through}
}

// Entry is a record on its way into the log. Its owner makes it once and uses it again and again.
type Entry struct {
	Record
	Payload [][]byte // whole pages, lent until EntryWritten
	CRCs    []uint32 // of the payload's pages: the owner's memory, filled by Append
	Awaited bool     // somebody will wait until it is durable
	Done    Written

	next *Entry
	in   bool // between Append and EntryWritten
}

// Written hears that an entry has been written, or that the log has ended. It is called in the order of the LSNs.
type Written interface {
	EntryWritten(e *Entry, s bdev.Status)
}

type entryList struct {
	head, tail *Entry
	n          int
}

func (l *entryList) push(e *Entry) {
	e.next = nil
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
	l.n++
}

func (l *entryList) pop() *Entry {
	e := l.head
	if l.head = e.next; l.head == nil {
		l.tail = nil
	}
	e.next = nil
	l.n--
	return e
}

// leastBytes is how large a log in so many extents must be: before the end of each some of it may be skipped.
func leastBytes(extents int) uint64 { return uint64(extents+4) * batchPagesMax * PageBytes }

// ExtentsMax is in how many extents a log of a size may lie.
func ExtentsMax(bytes uint64) int { return max(0, int(bytes/(batchPagesMax*PageBytes))-4) }

// New makes a log that is to be recovered, or begun if it never was. It runs on its reactor.
func New(cfg Config) (*Log, error) {
	a, err := newArea(cfg.Extents)
	if err != nil {
		return nil, err
	}
	if least := leastBytes(len(cfg.Extents)); a.bytes < least {
		return nil, fmt.Errorf("%w: %d bytes in %d extents, at least %d are needed", ErrLogTooSmall, a.bytes, len(cfg.Extents), least)
	}
	l := &Log{cfg: cfg, r: cfg.Reactor, area: a, placed: true, vec: make([][]byte, 0, batchPagesMax)}
	if l.page = l.r.Memory().Get(PageBytes); l.page == nil {
		return nil, fmt.Errorf("opening a log: no memory for its header page; give the reactors more")
	}
	l.request.Kind, l.request.Done = bdev.Write, l
	l.join.Done = l
	l.through.make(cfg.Channel)
	return l, nil
}

// Begun hears that a life has begun, or could not.
type Begun interface {
	LogBegun(l *Log, s bdev.Status)
}

// Begin begins a life after what was recovered: from then on the log takes records. Where the ring names the life or a later one, of
// which recovery accepted nothing, it begins the one after that: no life is ever begun twice.
func (l *Log) Begin(life Life, epoch Epoch, done Begun) {
	invariant.Check(l.phase == phaseNew && life > l.life && epoch >= l.epoch, "wal: a life begins once, above the last, in no older epoch")
	l.phase, l.begin = phaseEnding, done
	h := l.header()
	h.flags, h.prevLife, h.prevLSN = flagLife, l.life, l.appended
	l.life, l.epoch = max(life, l.lives+1), epoch
	l.lives = l.life
	h.life, h.epoch, h.pages, h.boot = l.life, epoch, 1, l.cfg.Boot
	if uint64(l.head-l.tail)+PageBytes > l.area.bytes {
		l.r.Defer(&l.kick, (*fullLog)(l))
		return
	}
	l.send(&h)
}

// fullLog is a log in which no life can begin.
type fullLog Log

// Run says so.
func (f *fullLog) Run() { (*Log)(f).Fail(bdev.StatusNoSpace) }

// header is that of a batch that would be written now.
func (l *Log) header() header {
	return header{
		offset: l.head, volume: l.cfg.Volume, lineage: l.cfg.Lineage, life: l.life, epoch: l.epoch,
		first: l.written + 1, durable: l.durable,
	}
}

// Marks are the three of the log.
func (l *Log) Marks() (appended, written, durable LSN) { return l.appended, l.written, l.durable }

// Life and epoch as they are now.
func (l *Log) Life() Life   { return l.life }
func (l *Log) Epoch() Epoch { return l.epoch } //nolint:revive // see Life

// Head is where the next batch goes, Tail the first byte that is kept.
func (l *Log) Head() Offset { return l.head }
func (l *Log) Tail() Offset { return l.tail } //nolint:revive // see Head

// DurableEnd is where the last batch ends of those that are durable: a reader may go there.
func (l *Log) DurableEnd() Offset { return l.flushed }

// Stats gives the counters.
func (l *Log) Stats() Stats { return l.stats }

// Sent is when the last batch was given to the device: for who hears EntryWritten, the one with that entry.
func (l *Log) Sent() reactor.Ticks { return l.sent }

// Failed is the reason for which the log has ended, StatusOK if it has not.
func (l *Log) Failed() bdev.Status { return l.failed }

// room is what a record of so many pages of payload may take at worst: a header of its own.
func room(pages int) uint64 { return uint64(pages+1) * PageBytes }

// beginningsMax is the number of lives that may begin, one page each, before something at the tail is given back.
const beginningsMax = 64

// Size is the number of bytes that records may take: all but what pads could, and the beginnings of lives.
func (l *Log) Size() uint64 { return l.area.bytes - l.area.lost() - beginningsMax*PageBytes }

// Used is what of Size is taken or promised.
func (l *Log) Used() uint64 { return uint64(l.head-l.tail) + l.promised + l.reserved }

// Reserve promises room for a record of so many pages, and reports whether there is. A promise is kept by Append or
// given back by Unreserve.
func (l *Log) Reserve(pages int) bool {
	invariant.Check(pages >= 0 && pages <= RecordPagesMax, "wal: a record larger than the largest")
	n := room(pages)
	if l.Used()+n > l.Size() {
		return false
	}
	l.promised += n
	return true
}

// Unreserve gives a promise back that is not needed.
func (l *Log) Unreserve(pages int) {
	n := room(pages)
	invariant.Check(l.promised >= n, "wal: more room given back than was reserved")
	l.promised -= n
}

// Append gives the entry its LSN and lines it up to be written. Its room was reserved for as many pages as the payload has. If
// the log has ended, EntryWritten says so.
func (l *Log) Append(e *Entry) {
	invariant.Check(l.phase == phaseOpen || l.phase == phaseFailed, "wal: appending to a log that is not open")
	invariant.Check(!e.in, "wal: appending an entry that is on its way")
	pages := 0
	for _, b := range e.Payload {
		invariant.Check(len(b)%PageBytes == 0, "wal: a payload that is not whole pages")
		for ; len(b) > 0; b = b[PageBytes:] {
			e.CRCs[pages] = PageCRC(b[:PageBytes])
			pages++
		}
	}
	e.Pages = uint16(pages)
	e.CRC = crcOfCRCs(e.CRCs[:pages])
	invariant.Check(pages <= RecordPagesMax && l.promised >= room(pages), "wal: appending without a reservation")
	l.promised -= room(pages)
	l.reserved += room(pages)
	e.LSN, e.in = 0, true
	if l.phase == phaseOpen {
		l.appended++
		e.LSN, e.Epoch = l.appended, l.epoch
		l.placed = l.placed || e.Kind == KindPlaced
	}
	l.gathered.push(e)
	l.r.AtFlush(&l.kick, l)
}

// SetEpoch lets what is appended from now on belong to a higher epoch.
func (l *Log) SetEpoch(e Epoch) {
	invariant.Check(e >= l.epoch, "wal: an epoch that falls")
	l.epoch = e
}

// Run is the end of a tick in which something was appended.
func (l *Log) Run() {
	if l.phase == phaseFailed {
		l.refuse()
		return
	}
	l.write()
}

// write begins the next batch, if there is something to write and no batch is being written.
func (l *Log) write() {
	if l.busy || l.flight.head != nil || l.gathered.head == nil || l.cfg.Stages.hold(StageWrite, l) {
		return
	}
	_, left := l.area.find(l.head)
	h := l.header()
	h.epoch = l.gathered.head.Epoch
	room := int(min(left/PageBytes, batchPagesMax)) - 1
	if int(l.gathered.head.Pages) > room {
		h.flags, h.pages = flagPad, int(left/PageBytes)
		l.stats.Pads++
		l.request.FUA = l.through.can && l.gathered.head.Awaited
		l.send(&h)
		return
	}
	h.pages = 1
	at := l.head + PageBytes
	awaited, placed := false, LSN(0)
	for e := l.gathered.head; e != nil; e = l.gathered.head {
		if h.records == batchRecordsMax || int(e.Pages) > room || e.Epoch != h.epoch {
			break
		}
		l.flight.push(l.gathered.pop())
		e.Offset = at
		e.put(recordAt(l.page, h.records))
		at += Offset(e.Pages) * PageBytes
		room -= int(e.Pages)
		h.pages += int(e.Pages)
		h.records++
		if awaited = awaited || e.Awaited; e.Kind == KindPlaced {
			placed = e.LSN
		}
	}
	if l.request.FUA = l.through.can && awaited; l.request.FUA {
		l.through.placed = max(l.through.placed, placed)
	}
	l.send(&h)
	l.flush()
}

// send writes a batch: its header, and the payloads of what is in flight.
func (l *Log) send(h *header) {
	h.put(l.page)
	position, _ := l.area.find(l.head)
	l.vec = append(l.vec[:0], l.page)
	pages := 1
	for e := l.flight.head; e != nil; e = e.next {
		l.vec = append(l.vec, e.Payload...)
		pages += int(e.Pages)
	}
	shift := l.cfg.Channel.Geometry().Shift()
	l.request.Data = l.vec
	l.request.LBA, l.request.Blocks = position>>shift, uint64(pages)*PageBytes>>shift
	l.bytes = uint64(h.pages) * PageBytes
	invariant.Check(uint64(l.head-l.tail)+l.bytes <= l.area.bytes, "wal: the head would overrun the tail")
	l.busy, l.sent = true, l.r.Now()
	l.stats.Batches++
	l.stats.Bytes += uint64(pages) * PageBytes
	l.cfg.Channel.Submit(&l.request)
}

// RequestDone hears that the batch has been written.
func (l *Log) RequestDone(q *bdev.Request) {
	l.busy = false
	clear(l.vec)
	if l.phase == phaseFailed {
		l.refuse()
		l.rested()
		return
	}
	if q.Status != bdev.StatusOK {
		l.Fail(q.Status)
		l.rested()
		return
	}
	from := l.head
	l.head += Offset(l.bytes)
	if l.phase == phaseEnding { // the life's first batch: durable before any record
		l.joinFlush()
		return
	}
	l.telling = true
	for l.flight.head != nil {
		e := l.flight.pop()
		invariant.Check(e.LSN == l.written+1, "wal: records out of order")
		l.written = e.LSN
		l.reserved -= room(int(e.Pages))
		l.stats.Records++
		l.stats.PayloadBytes += uint64(e.Pages) * PageBytes
		e.in = false
		e.Done.EntryWritten(e, bdev.StatusOK)
	}
	l.telling = false
	if q.FUA {
		l.stats.Through++
		l.through.add(from, l.head, l.written)
		l.wroteThrough()
	}
	l.flush()
	if l.phase == phaseOpen {
		l.write()
	}
}

// Fail ends the log: nothing more is written, and all who wait hear of it. What is durable stays.
func (l *Log) Fail(s bdev.Status) {
	if l.phase == phaseFailed || l.phase == phaseClosed {
		return
	}
	beginning := l.phase == phaseEnding
	l.phase, l.failed = phaseFailed, s
	if beginning {
		l.begin.LogBegun(l, s)
	}
	l.refuse()
}

// refuse ends all that waits in a log that has ended, but for what the device still has.
func (l *Log) refuse() {
	for !l.busy && l.flight.head != nil {
		l.refuseEntry(l.flight.pop())
	}
	for l.flight.head == nil && l.gathered.head != nil { // in the order of their LSNs
		l.refuseEntry(l.gathered.pop())
	}
	for w := l.waiters.take(); w != nil; {
		next := w.next
		w.end(l.failed)
		w = next
	}
}

func (l *Log) refuseEntry(e *Entry) {
	l.reserved -= room(int(e.Pages))
	e.in = false
	e.Done.EntryWritten(e, l.failed)
}

// Idle reports that nothing is on its way.
func (l *Log) Idle() bool {
	return !l.busy && !l.joined && l.gathered.head == nil && l.flight.head == nil && l.waiters.head == nil
}

// rested tells that nothing is on its way.
func (l *Log) rested() {
	if l.cfg.Rested != nil && l.Idle() {
		l.cfg.Rested.Run()
	}
}

// Close gives back what the log holds of its reactor. It is idle.
func (l *Log) Close() {
	invariant.Check(l.Idle(), "wal: closing a log with something on its way")
	l.phase = phaseClosed
	l.request.Release()
	l.r.Memory().Put(l.page)
}
