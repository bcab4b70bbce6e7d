package wal

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is reading a log from an offset on, in windows of at most 1 MiB: once at recovery, to its end, and again and again by
// who brings records home, up to a mark. Each range is read once, into a buffer that is made once; every header and every
// payload is checked.

// Follow is what the next batch must follow.
type Follow struct {
	Offset Offset
	Life   Life
	Epoch  Epoch
	LSN    LSN
}

// Beginning is a life that the log began: on which start of a machine, after which record, and up to where what it follows was known
// to be durable by then.
type Beginning struct {
	Life    Life
	After   LSN
	Durable LSN
	Boot    uuid.UUID
}

// Reader reads a log. It lives on the log's reactor.
type Reader struct {
	l       *Log
	buf     []byte
	request bdev.Request
	busy    bool
	limit   Offset // reading ends there
	start   Offset // of the window
	read    int    // bytes of it
	holds   bool   // they are there

	next   Follow // what was accepted last
	torn   error  // for which a record of the last batch did not count: only a life may follow, in its place
	ends   bool   // the log ends behind this window, or limit is reached
	why    error  // for which it ends, nil at the limit
	from   Windowed
	sought bool // no batch was accepted since Seek

	durable    LSN          // the highest mark that an accepted header knew
	beginnings *[]Beginning // of lives that were accepted; nil where nobody asks

	records []Record
	starts  []start
	crcs    []uint32 // of the pages of the window
}

// start is what a record follows.
type start struct {
	before Follow // the batch that it is in, and the record before
	cut    Offset // where the log would go on without it
}

// Windowed takes a window that was read: Records are valid until the next call of Next. If the read failed there are none.
type Windowed interface {
	WindowRead(rd *Reader, s bdev.Status)
}

const (
	windowBytes   = batchPagesMax * PageBytes
	windowRecords = 1024
)

var _ = [1]struct{}{}[uint(windowRecords)%batchRecordsMax/batchRecordsMax] // several batches fit

// NewReader makes a reader. It takes its buffer from the reactor's memory, and fails if there is none.
func (l *Log) NewReader() (*Reader, error) {
	rd := &Reader{
		l: l, records: make([]Record, 0, windowRecords), starts: make([]start, 0, windowRecords),
		crcs: make([]uint32, batchPagesMax),
	}
	if rd.buf = l.r.Memory().Get(windowBytes); rd.buf == nil {
		return nil, fmt.Errorf("reading a log: no memory for a window of %d bytes; give the reactors more", windowBytes)
	}
	rd.request.Kind, rd.request.Done = bdev.Read, rd
	return rd, nil
}

// Close gives back what the reader holds of its reactor. It is not reading.
func (rd *Reader) Close() {
	invariant.Check(!rd.busy, "wal: closing a reader that reads")
	rd.request.Release()
	rd.l.r.Memory().Put(rd.buf)
}

// Seek lets the next window begin behind what was accepted last: at a batch, the records of which up to f.LSN are passed over.
func (rd *Reader) Seek(f Follow) {
	invariant.Check(!rd.busy, "wal: a reader that reads is moved")
	rd.next, rd.ends, rd.why, rd.torn, rd.sought = f, false, nil, nil, true
	rd.records, rd.starts = rd.records[:0], rd.starts[:0]
	rd.holds = false
}

// Next reads the next window, up to limit at most. What the last one had of it is not read again.
func (rd *Reader) Next(limit Offset, to Windowed) {
	invariant.Check(!rd.busy && !rd.ends, "wal: reading on behind the end")
	rd.limit, rd.from = limit, to
	rd.records, rd.starts = rd.records[:0], rd.starts[:0]
	position, left := rd.l.area.find(rd.next.Offset)
	n := min(left, windowBytes, uint64(limit-rd.next.Offset))
	invariant.Check(n > 0, "wal: nothing to read before the limit")
	kept := rd.keep(n)
	rd.start, rd.read, rd.holds = rd.next.Offset, int(n), false
	shift := rd.l.cfg.Channel.Geometry().Shift()
	rd.request.LBA, rd.request.Blocks = (position+kept)>>shift, (n-kept)>>shift
	rd.request.SetData(rd.buf[kept:n])
	rd.busy = true
	rd.l.cfg.Channel.Submit(&rd.request)
}

// keep moves the end of the last window, where the next one of n bytes begins with it, to the beginning of the memory, and gives its length.
// It leaves a page to be read. What was read below a limit does not change: it is durable, or nobody writes.
func (rd *Reader) keep(n uint64) uint64 {
	at := rd.next.Offset - rd.start
	if !rd.holds || rd.next.Offset <= rd.start || at >= Offset(rd.read) {
		return 0
	}
	kept := min(uint64(rd.read)-uint64(at), n-PageBytes)
	copy(rd.buf[:kept], rd.buf[at:])
	return kept
}

// Ends reports that nothing follows the window, and why: nil if the limit is reached.
func (rd *Reader) Ends() (bool, error) { return rd.ends, rd.why }

// Durable is the highest durable mark that the headers read so far knew.
func (rd *Reader) Durable() LSN { return rd.durable }

// Follow is what the next window must follow.
func (rd *Reader) Follow() Follow { return rd.next }

// Records are those of the window, in the order of their LSNs.
func (rd *Reader) Records() []Record { return rd.records }

// Start is the offset at which the window begins.
func (rd *Reader) Start() Offset { return rd.start }

// Before is what the i-th record of the window follows, for Seek and for State: its batch, and the record before.
func (rd *Reader) Before(i int) Follow { return rd.starts[i].before }

// Page gives the i-th page of the window, and PageCRC its checksum, if it is of the payload of a record.
func (rd *Reader) Page(i int32) []byte { return rd.buf[int(i)*PageBytes:][:PageBytes] }

// PageCRC is the checksum of the i-th page of the window.
func (rd *Reader) PageCRC(i int32) uint32 { return rd.crcs[i] }

// Payload gives a record's payload, in the window's memory.
func (rd *Reader) Payload(r *Record) []byte {
	at := int(r.Offset - rd.start)
	return rd.buf[at:][:int(r.Pages)*PageBytes]
}

// CRCs gives those of the pages of a record's payload.
func (rd *Reader) CRCs(r *Record) []uint32 {
	at := int(r.Offset-rd.start) / PageBytes
	return rd.crcs[at:][:r.Pages]
}

// Cut lets the log end before the i-th record of the window, which has a payload: what it speaks of is not there. The log goes on over
// this payload, so that the record is not whole when it is read again.
func (rd *Reader) Cut(i int, why error) {
	invariant.Check(rd.records[i].Pages > 0, "wal: cutting before a record without payload")
	rd.next = rd.starts[i].before
	rd.next.Offset = rd.starts[i].cut
	rd.records, rd.starts = rd.records[:i], rd.starts[:i]
	rd.ends, rd.why = true, why
}

// RequestDone takes the bytes.
func (rd *Reader) RequestDone(q *bdev.Request) {
	rd.busy = false
	if rd.holds = q.Status == bdev.StatusOK; rd.holds {
		rd.parse()
	}
	rd.from.WindowRead(rd, q.Status)
}

// parse takes the whole batches of the window.
func (rd *Reader) parse() {
	for !rd.ends {
		if rd.next.Offset >= rd.limit {
			rd.ends = true
			return
		}
		at := int(rd.next.Offset - rd.start)
		if at >= rd.read || len(rd.records)+batchRecordsMax > cap(rd.records) { // a pad may go beyond the window
			return
		}
		var h header
		page := rd.buf[at:][:PageBytes]
		err := h.get(page)
		if err == nil {
			err = rd.follows(&h)
		}
		if err == nil && h.flags&flagPad == 0 && at+h.pages*PageBytes > rd.read && at > 0 {
			return // in the next window
		}
		if err != nil {
			if rd.torn != nil && !errors.Is(err, ErrVersion) {
				err = rd.torn
			}
			rd.end(err)
			return
		}
		if h.flags&flagLife != 0 && rd.beginnings != nil {
			*rd.beginnings = append(*rd.beginnings, Beginning{Life: h.life, After: h.prevLSN, Durable: rd.durable, Boot: h.boot})
		}
		rd.torn, rd.durable = nil, max(rd.durable, h.durable)
		rd.take(page, &h)
		rd.sought = false
	}
}

func (rd *Reader) end(why error) { rd.ends, rd.why = true, why }

// follows judges whether a batch follows what was accepted last.
func (rd *Reader) follows(h *header) error {
	n := &rd.next
	cfg := &rd.l.cfg
	_, left := rd.l.area.find(n.Offset)
	switch {
	case h.offset != n.Offset:
		return fmt.Errorf("%w: a batch of offset %d at offset %d, from an earlier lap", ErrEnd, h.offset, n.Offset)
	case h.volume != cfg.Volume:
		return fmt.Errorf("%w: a batch of volume %v", ErrEnd, h.volume)
	case h.lineage != cfg.Lineage:
		return fmt.Errorf("%w: a batch of lineage %d, this is %d", ErrEnd, h.lineage, cfg.Lineage)
	}
	if err := h.check(); err != nil {
		return err
	}
	life, pad := h.flags&flagLife != 0, h.flags&flagPad != 0
	switch {
	case h.first != n.LSN+1 && !(rd.sought && h.first <= n.LSN && n.LSN < h.first+LSN(h.records)):
		return fmt.Errorf("%w: a batch from LSN %d on after LSN %d", ErrEnd, h.first, n.LSN)
	case h.epoch < n.Epoch:
		return fmt.Errorf("%w: a batch of epoch %d after epoch %d", ErrEnd, h.epoch, n.Epoch)
	case life && (h.prevLife != n.Life || h.prevLSN != n.LSN || h.life <= n.Life):
		return fmt.Errorf("%w: life %d after LSN %d of life %d, where life %d is at LSN %d", ErrEnd, h.life, h.prevLSN, h.prevLife, n.Life, n.LSN)
	case !life && h.life != n.Life:
		return fmt.Errorf("%w: a batch of life %d, this is %d", ErrEnd, h.life, n.Life)
	case !life && rd.torn != nil:
		return rd.torn
	case pad && uint64(h.pages)*PageBytes != left:
		return fmt.Errorf("%w: a pad of %d pages where %d are left", ErrVersion, h.pages, left/PageBytes)
	case uint64(h.pages)*PageBytes > left:
		return fmt.Errorf("%w: a batch of %d pages where %d are left", ErrVersion, h.pages, left/PageBytes)
	}
	return nil
}

// take accepts a batch: its records as far as they are whole.
func (rd *Reader) take(page []byte, h *header) {
	at := h.offset + PageBytes
	end := h.offset + Offset(h.pages)*PageBytes
	before := start{before: rd.next, cut: h.offset}
	for i := range h.records {
		r := Record{LSN: h.first + LSN(i), Epoch: h.epoch, Offset: at}
		if err := r.get(recordAt(page, i)); err != nil {
			rd.end(err)
			return
		}
		if at += Offset(r.Pages) * PageBytes; at > end {
			rd.end(fmt.Errorf("%w: LSN %d has %d pages, and its batch has not as many", ErrVersion, r.LSN, r.Pages))
			return
		}
		if r.LSN > rd.next.LSN { // others are passed over
			if rd.torn = rd.whole(&r); rd.torn != nil {
				rd.next.Offset = before.cut
				return
			}
			rd.starts = append(rd.starts, before)
			rd.records = append(rd.records, r)
			rd.next = Follow{Offset: h.offset, Life: h.life, Epoch: h.epoch, LSN: r.LSN}
		}
		before = start{before: rd.next, cut: at}
	}
	if h.flags&flagPad == 0 && at != end {
		rd.end(fmt.Errorf("%w: a batch of %d pages whose records end before", ErrVersion, h.pages))
	}
	rd.next = Follow{Offset: end, Life: h.life, Epoch: h.epoch, LSN: rd.next.LSN}
}

// whole computes the CRCs of a payload's pages, and says why the record does not count. A batch that was torn may go on, in name, behind
// the mark up to which the log is read.
func (rd *Reader) whole(r *Record) error {
	if r.Offset+Offset(r.Pages)*PageBytes > rd.start+Offset(rd.read) {
		return fmt.Errorf("%w: LSN %d goes on behind offset %d", ErrEnd, r.LSN, rd.start+Offset(rd.read))
	}
	crcs, data := rd.CRCs(r), rd.Payload(r)
	for i := range crcs {
		crcs[i] = PageCRC(data[i*PageBytes:][:PageBytes])
	}
	if sum := crcOfCRCs(crcs); sum != r.CRC {
		return fmt.Errorf("%w: LSN %d with checksum %08x, which should be %08x", ErrEnd, r.LSN, sum, r.CRC)
	}
	return nil
}

// evidence looks through pages of the ring, the first of which is at base from its beginning, for headers of this log at their own
// positions. It gives the highest life that one of them names, and the highest durable mark of those that are of a life not below since: what
// an earlier one knew, the life's beginning has settled.
func (l *Log) evidence(since Life, base uint64, data []byte) (life Life, durable LSN) {
	for at := 0; at < len(data); at += PageBytes {
		page := data[at:][:PageBytes]
		var h header
		if [8]byte(page) != batchMagic || h.get(page) != nil || h.version != formatVersion || h.volume != l.cfg.Volume ||
			h.lineage != l.cfg.Lineage || uint64(h.offset)%l.area.bytes != base+uint64(at) {
			continue
		}
		life = max(life, h.life)
		if h.life >= since {
			durable = max(durable, h.durable)
		}
	}
	return life, durable
}

// noLimit lets a reader go to the log's end.
const noLimit = Offset(math.MaxUint64)
