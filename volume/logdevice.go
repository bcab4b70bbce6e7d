package volume

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a log device (V-34): a second device of a pool, on which the logs of all its volumes are, and nothing else.
//
//	pool made:    heads are wiped ─▶ head 1, generation 1 ─▶ flush ─▶ the first commit, whose slot names the device and generation 1
//	pool opened:  heads are compared with the slot ─▶ head of generation n + 1 ─▶ flush ─▶ a commit with n + 1 ─▶ volumes are opened
//
// So a head is of the slot's generation, or one ahead where the power failed between the two. One that is behind is an older copy, whose
// logs lack what was durable since; one further ahead belongs to a newer copy of the pool. Neither is opened.
//
// Each device has its barrier: what a log wrote is flushed there, and the pool's device only if a placed write has data on it.

// ErrLogMissing refuses to open a pool without the logs of its volumes.
var ErrLogMissing = errors.New("the log device is missing")

// LogDeviceBytesMin is the smallest log device.
const LogDeviceBytesMin = 16 << 20

// logDevice is the pool's, nil where the logs are in the pool.
type logDevice struct {
	handle   *bdev.Handle
	channels []*bdev.Channel
	disk     disk
	barrier  *wal.Barrier // on the pool's reactor
	head     LogHead
	space    logSpace // belongs to the pool's reactor
}

// openLogDevice gets hold of a device for logs.
func (p *Pool) openLogDevice(name string) (*logDevice, error) {
	if d, err := p.registry.Lookup(name); err == nil && d == p.handle.Device() {
		return nil, fmt.Errorf("%w: log device %s is the pool's own device; without a log device the logs are there", ErrInvalid, name)
	}
	h, err := p.claimDevice(name)
	if err != nil {
		return nil, fmt.Errorf("log device %s: %w", name, err)
	}
	l := &logDevice{handle: h}
	g := h.Device().Geometry()
	switch {
	case g.ReadOnly:
		err = fmt.Errorf("%w: log device %s is read only", ErrInvalid, name)
	case !g.Supports(bdev.Flush):
		err = fmt.Errorf("%w: log device %s cannot be flushed", ErrInvalid, name)
	case g.Bytes() < LogDeviceBytesMin:
		err = fmt.Errorf("%w: log device %s has %d bytes, the least is %d", ErrInvalid, name, g.Bytes(), uint64(LogDeviceBytesMin))
	}
	if err == nil {
		l.channels, err = h.Channels()
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	p.watchLogs(l.channels)
	l.disk = disk{p.disk.control, p.r, l.channels[0]}
	return l, p.r.Call(func() { l.barrier = wal.NewBarrier(p.r, l.channels[0]) })
}

// watchLogs lets those who wait for the pool's devices watch that of its logs.
func (p *Pool) watchLogs(channels []*bdev.Channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched[1] = channels
}

// release gives the device back.
func (l *logDevice) release(p *Pool) {
	p.watchLogs(nil)
	_ = p.r.Call(l.barrier.Close)
	bdev.CloseChannels(l.channels)
	l.handle.Close()
}

// format makes a log device of it.
func (l *logDevice) format(p *Pool) error {
	if err := l.disk.blankSlots(); err != nil { // an older pool's slots and heads are gone before anything of this one is there
		return err
	}
	if err := l.disk.flush(); err != nil {
		return err
	}
	l.head = LogHead{Pool: p.id, UUID: uuid.New(), Pages: min(l.devicePages(), pagesMax)}
	l.space.pages = l.head.Pages
	return l.opened(1)
}

// devicePages is the size of the device as it is now.
func (l *logDevice) devicePages() uint64 {
	g := l.handle.Device().Geometry()
	return g.Bytes() / PageBytes
}

// opened writes the head of an opening, durably, over that of the one before the last.
func (l *logDevice) opened(generation uint64) error {
	l.head.Generation, l.head.Number = generation, uint32(generation%2)
	page := pageMemory(1)
	l.head.EncodeTo(page)
	if err := l.disk.write(SlotPlace[l.head.Number], page); err != nil {
		return err
	}
	return l.disk.flush()
}

// read takes the head of a log device and holds it against the slot.
func (l *logDevice) read(s *Slot) error {
	pages, unread := l.disk.readSlots() // the head that counts may be the other one
	if errors.Is(unread, ErrStuck) {    // what is there is not known
		return unread
	}
	h, err := newestHead(pages)
	if err != nil {
		if unread != nil {
			err = unread
		}
		return fmt.Errorf("%w: device %s is not it: %w", ErrLogMissing, l.handle.Device().Name(), err)
	}
	l.head, l.space.pages = h, h.Pages
	name := l.handle.Device().Name()
	switch {
	case h.Pool != s.Pool:
		return fmt.Errorf("%w: device %s is the log device of pool %v, not of %v", ErrLogMissing, name, h.Pool, s.Pool)
	case h.UUID != s.LogDevice:
		return fmt.Errorf("%w: device %s is log device %v of this pool, which has %v now", ErrLogMissing, name, h.UUID, s.LogDevice)
	case h.Generation < s.LogOpened:
		return fmt.Errorf("%w: device %s is an older copy of it: opened %d times, and the pool %d times", ErrLogMissing, name, h.Generation, s.LogOpened)
	case h.Generation > s.LogOpened+1:
		return fmt.Errorf("%w: device %s was opened %d times, and the pool only %d: this is an older copy of the pool", ErrLogMissing, name, h.Generation, s.LogOpened)
	case h.Pages > l.devicePages():
		return fmt.Errorf("%w: device %s has become smaller: it had %d pages", ErrLogMissing, name, h.Pages)
	}
	return nil
}

// openLogs opens the log device that a slot names: the one that was said, or any that is it.
func (p *Pool) openLogs(s *Slot) error {
	if s.LogDevice == uuid.Nil {
		if p.cfg.LogDevice != "" {
			return fmt.Errorf("%w: its logs are in the pool itself, not on %s", ErrInvalid, p.cfg.LogDevice)
		}
		return nil
	}
	name := p.cfg.LogDevice
	var stuck error
	if name == "" {
		name, stuck = findLogDevice(p.registry, &p.cfg, s)
	}
	switch {
	case stuck != nil: // that is no loss that could be accepted: the logs are there when it answers
		return fmt.Errorf("its log device is %v, and one that does not answer may be it: %w", s.LogDevice, stuck)
	case name == "":
		return fmt.Errorf("%w: it is %v, and no device is it; bring it back, or accept that what it held is lost", ErrLogMissing, s.LogDevice)
	}
	l, err := p.openLogDevice(name)
	if err != nil {
		return err
	}
	if err := l.read(s); err != nil {
		l.release(p)
		return err
	}
	p.logs = l
	return nil
}

// claimLogs notes what the volumes have of the log device, and begins an opening of it.
func (p *Pool) claimLogs(r *root) error {
	l := p.logs
	if l == nil {
		return nil
	}
	for _, f := range r.volumes {
		for _, e := range f.page.Log {
			if !l.space.claim(e) {
				return fmt.Errorf("%w: the log of volume %s has pages %d to %d of the log device, which has %d, or something else has them too",
					ErrPoolCorrupt, f.page.Name, e.Place, e.End()-1, l.space.pages)
			}
		}
	}
	n := r.slot.LogOpened + 1
	if err := l.opened(n); err != nil {
		return err
	}
	return p.change(&commitMessage{logs: &logRoot{l.head.UUID, n}})
}

// logRoot is what the slot has of the log device.
type logRoot struct {
	device uuid.UUID
	opened uint64
}

// takeLog takes room for a log, and gives the number of its extents. It runs on the pool's reactor.
func (p *Pool) takeLog(dst []Extent, bytes uint64) (int, bool) {
	unit := uint64(logUnit * PageBytes)
	if p.logs == nil {
		unit = p.shape.ClusterBytes()
	}
	units := (bytes + unit - 1) / unit
	dst = dst[:min(len(dst), wal.ExtentsMax(units*unit))]
	if p.logs != nil {
		return p.logs.space.take(dst, units*logUnit, p.commits)
	}
	return p.alloc.TakeRuns(dst, units)
}

// returnLog gives room back that no commit ever had.
func (p *Pool) returnLog(runs []Extent) {
	for _, e := range runs {
		if p.logs != nil {
			p.logs.space.drop(e)
		} else {
			p.alloc.GiveBack(e.Place, e.Pages)
		}
	}
}

// logChannel is the channel to the logs on a reactor.
func (p *Pool) logChannel(reactor int) *bdev.Channel {
	if p.logs != nil {
		return p.logs.channels[reactor]
	}
	return p.channels[reactor]
}

// logBarriers are those of a log: of where it is, and of where data is that it speaks of, nil if that is the same.
func (p *Pool) logBarriers() (log, data *wal.Barrier) {
	if p.logs != nil {
		return p.logs.barrier, p.barrier
	}
	return p.barrier, nil
}

// layers is how many devices stand below a volume.
func (p *Pool) layers() int {
	n := p.handle.Device().Layers()
	if p.logs != nil {
		n = max(n, p.logs.handle.Device().Layers())
	}
	return n
}
