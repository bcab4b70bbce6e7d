package bdev

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// Open gives the queue of one reactor.
func (u *Uring) Open(r *reactor.Reactor) (Queue, error) {
	c := &uringQueue{u: u}
	if u.polled.Load() {
		f, err := r.NewPolledFile(int(u.file.Fd()))
		if err == nil {
			c.file = f
			return c, nil
		}
		if !errors.Is(err, reactor.ErrNoPolling) {
			return nil, err
		}
	}
	c.file = r.NewFile(int(u.file.Fd()))
	return c, nil
}

// uringQueue is the file on one reactor.
type uringQueue struct {
	u    *Uring
	file *reactor.File
	long []uringLong // requests that take more than one operation or piece; lent by index, which the frame's Tag keeps, plus one
	free []int32
	zero uringZero
}

// uringLong is what such a request keeps.
type uringLong struct {
	iov   []unix.Iovec
	done  int // bytes
	tries int
	zero  uringZero // WriteZeroes: the way that it goes
	holed bool      // the hole is there, the allocation follows
	waits bool      // a read or write that the file system did not let be polled for, and that goes the usual way
}

// uringZero is how zeroes are written, learnt from what the file system refuses.
type uringZero uint8

const (
	zeroRange uringZero = iota
	zeroHole
)

// Limits of one operation.
const (
	vectorMax = 1024 // UIO_MAXIOV, linux/uio.h
	triesMax  = 1000 // of an operation that is interrupted
)

func (c *uringQueue) Close() { c.file.Close() }

func (c *uringQueue) Submit(q *Request) {
	if q.Kind.Writes() && c.u.shrunk.Load() {
		q.CompleteLater(StatusIO)
		return
	}
	switch q.Kind {
	case WriteZeroes:
		c.lend(q).zero = c.zero
	case Read, Write:
		if len(q.Data) != 1 {
			c.lend(q)
		}
	}
	c.start(q)
}

// start starts the request's next operation.
func (c *uringQueue) start(q *Request) {
	op := q.Op(c)
	off, n := q.LBA<<c.u.shift, q.Blocks<<c.u.shift
	switch q.Kind {
	case Read, Write:
		c.transfer(q, op, off)
	case Flush:
		c.file.Datasync(op)
	case Unmap:
		if c.u.discard {
			c.file.Discard(op, off, n)
		} else {
			c.file.Fallocate(op, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		}
	case WriteZeroes:
		mode := uint32(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)
		switch w := c.lent(q); {
		case w.holed:
			mode = unix.FALLOC_FL_KEEP_SIZE
		case w.zero == zeroHole:
			mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		}
		c.file.Fallocate(op, mode, off, n)
	}
}

// transfer reads or writes what is left of the request.
func (c *uringQueue) transfer(q *Request, op *reactor.Op, off uint64) {
	var flags uint32
	if q.FUA {
		flags = reactor.WriteDsync
	}
	w := c.lent(q)
	switch {
	case w == nil && q.Kind == Read:
		c.file.Read(op, q.Data[0], off)
	case w == nil:
		c.file.Write(op, q.Data[0], off, flags)
	case q.Kind == Read:
		c.file.Readv(op, w.vector(q.Data), off+uint64(w.done))
	default:
		c.file.Writev(op, w.vector(q.Data), off+uint64(w.done), flags)
	}
}

// vector describes the pieces of data from the byte done on, as many as one operation takes.
func (w *uringLong) vector(data [][]byte) []unix.Iovec {
	iov, skip := w.iov[:0], w.done
	for _, b := range data {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		v := unix.Iovec{Base: unsafe.SliceData(b[skip:])}
		v.SetLen(len(b) - skip)
		skip = 0
		if iov = append(iov, v); len(iov) == vectorMax {
			break
		}
	}
	w.iov = iov
	return iov
}

// lend gives the request an uringLong to keep until its end.
func (c *uringQueue) lend(q *Request) *uringLong {
	if len(c.free) == 0 {
		c.long = append(c.long, uringLong{})
		c.free = append(c.free, int32(len(c.long)-1))
	}
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	q.Frame().Tag = uint64(i) + 1
	w := &c.long[i]
	w.done, w.tries, w.zero, w.holed, w.waits = 0, 0, zeroRange, false, false
	return w
}

// lent is what lend gave, nil if it was not asked.
func (c *uringQueue) lent(q *Request) *uringLong {
	if t := q.Frame().Tag; t > 0 {
		return &c.long[t-1]
	}
	return nil
}

func (c *uringQueue) giveBack(q *Request) {
	if t := q.Frame().Tag; t > 0 {
		c.free = append(c.free, int32(t-1))
		q.Frame().Tag = 0
	}
}

// OpDone hears the end of one operation.
func (c *uringQueue) OpDone(q *Request, res int32) {
	if res == int32(bytesWanted(q)) && q.Frame().Tag == 0 {
		q.Complete(StatusOK)
		return
	}
	c.opDone(q, res)
}

// bytesWanted is the result of an operation that did all at once.
func bytesWanted(q *Request) int {
	if q.Kind == Read || q.Kind == Write {
		return bytesOf(q.Data)
	}
	return 0
}

// opDone takes what is not the whole of a request: it goes on, turns to another way, or ends.
func (c *uringQueue) opDone(q *Request, res int32) {
	w := c.lent(q)
	if w == nil {
		w = c.lend(q)
	}
	if res < 0 {
		switch e := syscall.Errno(-res); {
		case e == syscall.EINTR || e == syscall.EAGAIN:
			if w.tries++; w.tries < triesMax {
				c.start(q)
				return
			}
		case e == syscall.EOPNOTSUPP && (q.Kind == Read || q.Kind == Write) && c.u.polling && !w.waits:
			w.waits = true // so do all others that were in flight when the first was refused
			c.unpoll()
			c.start(q)
			return
		case e == syscall.EOPNOTSUPP && q.Kind == WriteZeroes:
			c.refused(q, w)
			return
		}
		c.end(q, c.failure(q, syscall.Errno(-res)))
		return
	}
	switch q.Kind {
	case Read, Write:
		// Less than was asked for is legal, after a signal or at a full disk; nothing at all is the end of the file.
		w.done += int(res)
		if res > 0 && w.done < q.Bytes() {
			c.start(q)
			return
		}
		if w.done < q.Bytes() {
			c.end(q, c.failure(q, 0))
			return
		}
	case WriteZeroes:
		if w.zero == zeroHole && !w.holed {
			w.holed = true
			c.start(q)
			return
		}
	}
	c.end(q, StatusOK)
}

func (c *uringQueue) end(q *Request, s Status) {
	c.giveBack(q)
	q.Complete(s)
}

// unpoll lets reads and writes go the usual way from now on, here and where a reactor opens the file later.
func (c *uringQueue) unpoll() {
	c.file.Unpoll()
	c.u.polled.Store(false)
}

// refused turns to the next way of writing zeroes, when the file system has not got the present one.
func (c *uringQueue) refused(q *Request, w *uringLong) {
	switch {
	case w.holed: // it reads as zeros; that it is not allocated again is a pity only
		c.end(q, StatusOK)
	case w.zero == zeroRange && !c.u.block:
		c.zero, w.zero = zeroHole, zeroHole
		c.start(q)
	default:
		c.giveBack(q)
		q.Decline()
	}
}

// failure judges why an operation did not do what it should.
func (c *uringQueue) failure(q *Request, e syscall.Errno) Status {
	if e == 0 || e == syscall.EINVAL || e == syscall.EFBIG || e == syscall.ENOSPC && c.u.block {
		// Past the end? A block device says ENOSPC to a write there, a file nothing at all to a read.
		if n, err := c.u.size(); err == nil && n < (q.LBA+q.Blocks)<<c.u.shift {
			if n < q.Frame().c.g.Bytes() {
				c.u.shrunk.Store(true) // nobody has taken note of it yet
			}
			return StatusIO
		}
	}
	switch e {
	case syscall.ENOSPC, syscall.EDQUOT:
		return StatusNoSpace
	case syscall.EOPNOTSUPP:
		return StatusNotSupported
	case syscall.ENODEV, syscall.ENXIO:
		return StatusGone
	case syscall.EROFS, syscall.EPERM, syscall.EBADF:
		return StatusReadOnly
	case syscall.EINTR, syscall.EAGAIN, syscall.ENOMEM:
		return StatusBusy
	case syscall.ECANCELED:
		return StatusAborted
	}
	return StatusIO
}
