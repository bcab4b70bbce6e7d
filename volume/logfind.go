package volume

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
)

// This file looks at devices that nobody opened: whether there is a pool on them, or the logs of one.

// Examined is what a device begins with.
type Examined struct {
	Pool    bool      // slots of a pool, valid or not
	Logs    bool      // heads of a log device
	PoolID  uuid.UUID // whose, if one is valid
	LogID   uuid.UUID // of the log device, zero if the pool has none
	Problem error     // why nothing valid is there
}

// Examine looks at the pages where slots and heads are. Of the config its limits count: a device that does not answer ends it with ErrStuck.
func Examine(g *bdev.Registry, device string, cfg PoolConfig) (Examined, error) {
	dev, err := g.Lookup(device)
	if err != nil {
		return Examined{}, err
	}
	if geometry := dev.Geometry(); geometry.Bytes() < min(PoolBytesMin, LogDeviceBytesMin) {
		return Examined{}, nil
	}
	h, err := g.Open(device, bdev.OpenOptions{Who: "examine"})
	if err != nil {
		return Examined{}, err
	}
	r := g.Group().Reactor(0)
	var channel *bdev.Channel
	if e := r.Call(func() { channel, err = h.Channel(r) }); e != nil || err != nil {
		h.Close()
		return Examined{}, errors.Join(e, err)
	}
	var x Examined
	d := disk{control: control{await: cfg.Await}, r: r, channel: channel}
	err = cfg.vigil(g.Group(), func() [2][]*bdev.Channel { return [2][]*bdev.Channel{{channel}} }).during(func() error {
		defer h.Close()
		defer func() { _ = r.Call(channel.Close) }()
		found, err := d.examine()
		if err == nil {
			x = found
		}
		return err
	})
	if err != nil {
		return Examined{}, fmt.Errorf("looking for a pool on %s: %w", device, err)
	}
	return x, nil
}

// examine reads them.
func (d *disk) examine() (x Examined, err error) {
	page, err := d.readSlots()
	for _, b := range page {
		switch string(b[:len(slotMagic)]) {
		case slotMagic:
			x.Pool = true
		case logMagic:
			x.Logs = true
		}
	}
	switch {
	case x.Pool:
		s, _, e := ReadSlots(page, new([2]Slot))
		if x.Problem = e; e == nil {
			x.PoolID, x.LogID = s.Pool, s.LogDevice
		}
	case x.Logs:
		head, e := newestHead(page)
		if x.Problem = e; e == nil {
			x.PoolID, x.LogID = head.Pool, head.UUID
		}
	default:
		return x, err
	}
	return x, nil
}

// findLogDevice finds the device with the logs of a pool among those that nobody has, "" if none is it. The error is ErrStuck if none that answers
// is it, and another may be.
func findLogDevice(g *bdev.Registry, cfg *PoolConfig, s *Slot) (string, error) {
	return findUnclaimed(g, cfg, func(x Examined) bool { return x.Logs && x.PoolID == s.Pool && x.LogID == s.LogDevice })
}

// PoolOfLogs finds the device of the pool whose logs are on a device, among those that nobody has: "" if there is none.
func PoolOfLogs(g *bdev.Registry, logs Examined, cfg PoolConfig) string {
	device, _ := findUnclaimed(g, &cfg, func(x Examined) bool { return x.Pool && x.PoolID == logs.PoolID && x.LogID == logs.LogID })
	return device
}

// findUnclaimed finds the first device that nobody has, is no volume, and is what is looked for. If none is, the error names the first that does not
// answer: that one may be.
func findUnclaimed(g *bdev.Registry, cfg *PoolConfig, is func(Examined) bool) (device string, stuck error) {
	for _, d := range g.Devices() {
		if _, volume := d.Driver().(*Volume); volume || d.Claim() != "" {
			continue
		}
		x, err := Examine(g, d.Name(), *cfg)
		switch {
		case err == nil && is(x):
			return d.Name(), nil
		case stuck == nil && errors.Is(err, ErrStuck):
			stuck = err
		}
	}
	return "", stuck
}
