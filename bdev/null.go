package bdev

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Null is a device that forgets what is written and does not fill what is read. It measures the way to a device.
type Null struct{}

// NewNull makes and registers one.
func NewNull(g *Registry, name string, id uuid.UUID, blockSize uint32, blocks uint64, hints ...Hints) (*Device, error) {
	cfg := Config{
		Name: name, Product: "Null disk", UUID: id, Driver: Null{},
		Geometry: Geometry{
			BlockSize: blockSize, Blocks: blocks,
			Native: SetOf(Read, Write, Flush, Unmap, WriteZeroes, Compare, CompareAndWrite, Copy),
		},
	}
	for _, h := range hints {
		h.put(&cfg.Geometry)
	}
	d, err := g.Register(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Open gives the queue of one reactor.
func (Null) Open(*reactor.Reactor) (Queue, error) { return nullQueue{}, nil }

// Describe tells nothing more.
func (Null) Describe() any { return nil }

// Close has nothing to release.
func (Null) Close() error { return nil }

type nullQueue struct{}

func (nullQueue) Close()            {}
func (nullQueue) Submit(q *Request) { q.CompleteLater(StatusOK) }
