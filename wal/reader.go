package wal

import (
	"encoding/binary"
	"fmt"
	"math"

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

// Reader reads a log. It lives on the log's reactor.
type Reader struct {
	l       *Log
	buf     []byte
	request bdev.Request
	busy    bool
	limit   Offset // reading ends there
	start   Offset // of the window
	read    int    // bytes of it

	next Follow // what was accepted last
	ends bool   // the log ends behind this window, or limit is reached
	why  error  // for which it ends, nil at the limit
	from Windowed

	records []Record
	starts  []Follow // where the log would end without the record
	crcs    []uint32 // of the pages of the window
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
		l: l, records: make([]Record, 0, windowRecords), starts: make([]Follow, 0, windowRecords),
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

// Seek lets the next window begin behind what was accepted last.
func (rd *Reader) Seek(f Follow) {
	invariant.Check(!rd.busy, "wal: a reader that reads is moved")
	rd.next, rd.ends, rd.why = f, false, nil
	rd.records, rd.starts = rd.records[:0], rd.starts[:0]
}

// Next reads the next window, up to limit at most.
func (rd *Reader) Next(limit Offset, to Windowed) {
	invariant.Check(!rd.busy && !rd.ends, "wal: reading on behind the end")
	rd.limit, rd.from = limit, to
	rd.records, rd.starts = rd.records[:0], rd.starts[:0]
	position, left := rd.l.area.find(rd.next.Offset)
	n := min(left, windowBytes, uint64(limit-rd.next.Offset))
	invariant.Check(n > 0, "wal: nothing to read before the limit")
	rd.start, rd.read = rd.next.Offset, int(n)
	shift := rd.l.cfg.Channel.Geometry().Shift()
	rd.request.LBA, rd.request.Blocks = position>>shift, n>>shift
	rd.request.SetData(rd.buf[:n])
	rd.busy = true
	rd.l.cfg.Channel.Submit(&rd.request)
}

// Ends reports that nothing follows the window, and why: nil if the limit is reached.
func (rd *Reader) Ends() (bool, error) { return rd.ends, rd.why }

// Follow is what the next window must follow.
func (rd *Reader) Follow() Follow { return rd.next }

// Records are those of the window, in the order of their LSNs.
func (rd *Reader) Records() []Record { return rd.records }

// Start is the offset at which the window begins.
func (rd *Reader) Start() Offset { return rd.start }

// Before is what the i-th record of the window follows.
func (rd *Reader) Before(i int) Follow { return rd.starts[i] }

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

// Cut lets the log end before the i-th record of the window: what it speaks of is not there.
func (rd *Reader) Cut(i int, why error) {
	rd.next = rd.starts[i]
	rd.records, rd.starts = rd.records[:i], rd.starts[:i]
	rd.ends, rd.why = true, why
}

// RequestDone takes the bytes.
func (rd *Reader) RequestDone(q *bdev.Request) {
	rd.busy = false
	if q.Status == bdev.StatusOK {
		rd.parse()
	}
	rd.from.WindowRead(rd, q.Status)
}

// parse takes the whole batches of the window.
func (rd *Reader) parse() {
	for !rd.ends {
		if rd.next.Offset == rd.limit {
			rd.ends = true
			return
		}
		at := int(rd.next.Offset - rd.start)
		if at == rd.read || len(rd.records)+batchRecordsMax > cap(rd.records) {
			return
		}
		var h header
		page := rd.buf[at:][:PageBytes]
		if err := h.get(page); err != nil {
			rd.end(err)
			return
		}
		if err := rd.follows(&h); err != nil {
			rd.end(err)
			return
		}
		if h.flags&flagPad != 0 {
			rd.next.Offset += Offset(h.pages) * PageBytes
			continue
		}
		if at+h.pages*PageBytes > rd.read {
			if at == 0 {
				rd.end(fmt.Errorf("%w: a batch of %d pages where %d are left", ErrEnd, h.pages, rd.read/PageBytes))
			}
			return // in the next window
		}
		rd.take(page, &h)
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
	case h.first != n.LSN+1:
		return fmt.Errorf("%w: a batch from LSN %d on after LSN %d", ErrEnd, h.first, n.LSN)
	case h.epoch < n.Epoch:
		return fmt.Errorf("%w: a batch of epoch %d after epoch %d", ErrEnd, h.epoch, n.Epoch)
	case h.flags&flagLife != 0 && (h.prevLife != n.Life || h.prevLSN != n.LSN || h.life <= n.Life):
		return fmt.Errorf("%w: life %d after LSN %d of life %d, where life %d is at LSN %d", ErrEnd, h.life, h.prevLSN, h.prevLife, n.Life, n.LSN)
	case h.flags&flagLife == 0 && h.life != n.Life:
		return fmt.Errorf("%w: a batch of life %d, this is %d", ErrEnd, h.life, n.Life)
	case h.flags&flagPad != 0 && uint64(h.pages)*PageBytes != left:
		return fmt.Errorf("%w: a pad of %d pages where %d are left", ErrEnd, h.pages, left/PageBytes)
	}
	return nil
}

// take accepts the records of a batch, as far as they are whole.
func (rd *Reader) take(page []byte, h *header) {
	at := h.offset + PageBytes
	end := h.offset + Offset(h.pages)*PageBytes
	for i := range h.records {
		var r Record
		err := r.get(recordAt(page, i))
		if err == nil && at+Offset(r.Pages)*PageBytes > end {
			err = fmt.Errorf("%w: a record of %d pages in a batch with %d left", ErrEnd, r.Pages, (end-at)/PageBytes)
		}
		if err == nil {
			r.LSN, r.Epoch, r.Offset = h.first+LSN(i), h.epoch, at
			if sum := rd.sum(&r); sum != r.CRC {
				err = fmt.Errorf("%w: LSN %d with checksum %08x, which should be %08x", ErrEnd, r.LSN, sum, r.CRC)
			}
		}
		if err != nil { // the log goes on at the byte after what was accepted: in the batch, or where it begins
			rd.end(err)
			return
		}
		rd.starts = append(rd.starts, rd.next)
		rd.records = append(rd.records, r)
		at += Offset(r.Pages) * PageBytes
		rd.next = Follow{Offset: at, Life: h.life, Epoch: h.epoch, LSN: r.LSN}
	}
	rd.next = Follow{Offset: end, Life: h.life, Epoch: h.epoch, LSN: rd.next.LSN}
	if at != end {
		rd.end(fmt.Errorf("%w: a batch of %d pages whose records end before", ErrVersion, h.pages))
	}
}

// sum computes the CRCs of a payload's pages, and the record's.
func (rd *Reader) sum(r *Record) uint32 {
	crcs, data := rd.CRCs(r), rd.Payload(r)
	for i := range crcs {
		crcs[i] = PageCRC(data[i*PageBytes:][:PageBytes])
	}
	return crcOfCRCs(crcs)
}

// durableAbove looks through the pages of a window for a header of this log, at its own position, that knew a durable mark above lsn.
func (rd *Reader) durableAbove(lsn LSN, base Offset, data []byte) (LSN, bool) {
	le := binary.LittleEndian
	for at := 0; at < len(data); at += PageBytes {
		page := data[at:][:PageBytes]
		if [8]byte(page) != batchMagic || LSN(le.Uint64(page[72:])) <= lsn {
			continue
		}
		var h header
		if h.get(page) != nil || h.volume != rd.l.cfg.Volume || h.lineage != rd.l.cfg.Lineage {
			continue
		}
		if uint64(h.offset)%rd.l.area.bytes == uint64(base)+uint64(at) {
			return h.durable, true
		}
	}
	return 0, false
}

// noLimit lets a reader go to the log's end.
const noLimit = Offset(math.MaxUint64)
