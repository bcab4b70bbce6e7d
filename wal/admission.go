package wal

import (
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how full a log may be, and how large it must be: arithmetic alone.

// Pressure is how full a log is, as admission sees it.
type Pressure uint8

// The bands.
const (
	PressureNone   Pressure = iota
	PressureDelay           // from 0.7 on: a delay that grows to 5 ms
	PressureUrgent          // from 0.8 on: the delay, and a checkpoint at once
	PressureWait            // from 0.9 on: nothing is admitted
)

var pressureNames = [...]string{"none", "delay", "urgent", "wait"}

func (p Pressure) String() string { return pressureNames[p] }

// delayMax is the delay where waiting begins.
const delayMax = 5 * reactor.Millisecond

// Admission judges a log with so many of its bytes used: the band, and how long a write waits at the door.
func Admission(used, size uint64) (Pressure, reactor.Ticks) {
	if used*10 < size*7 {
		return PressureNone, 0
	}
	if used*10 >= size*9 {
		return PressureWait, delayMax
	}
	over := used*10 - size*7 // 0 to 2 × size
	delay := reactor.Ticks(float64(delayMax) * float64(over) / float64(2*size))
	if used*10 >= size*8 {
		return PressureUrgent, delay
	}
	return PressureDelay, delay
}

// Use is what a volume is for, as far as its log is concerned.
type Use string

// The uses.
const (
	UseGeneral    Use = "general"
	UseDatabase   Use = "database"
	UseThroughput Use = "throughput"
)

// DefaultBytes is the size of a log where none is asked for.
const DefaultBytes = 64 << 20

var floors = map[Use]uint64{UseGeneral: 32 << 20, UseDatabase: 128 << 20, UseThroughput: 128 << 20}

// SizeFor is the size of a log for a use where none is asked for: the default, or the use's floor where that is more.
func SizeFor(use Use) uint64 { return max(DefaultBytes, floors[use]) }

// CheckSize judges the size of a log for a use, with so many slots of blocks of so many bytes. known is false for a use that
// is none of the above: it is taken as general, and the caller warns.
func CheckSize(bytes uint64, use Use, slots, blockBytes uint64) (known bool, err error) {
	least, known := floors[use]
	if !known {
		use, least = UseGeneral, floors[UseGeneral]
	}
	const largest = RecordPagesMax * PageBytes
	switch {
	case bytes < least:
		err = fmt.Errorf("%w: %d bytes, for use %q at least %d are needed", ErrLogTooSmall, bytes, use, least)
	case blockBytes > 0 && slots > bytes/4/blockBytes: // bytes < 4 × slots × blockBytes, which may be more than can be counted
		err = fmt.Errorf("%w: %d bytes, %d slots of %d bytes need four times as much as they hold", ErrLogTooSmall, bytes, slots, blockBytes)
	case bytes < 64*largest:
		err = fmt.Errorf("%w: %d bytes hold less than 64 records of the largest size, %d", ErrLogTooSmall, bytes, largest)
	}
	return known, err
}
