package bdev

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Passthru is a device that only passes on. It measures what a layer costs, and can carry limits of its own.
type Passthru struct {
	*base
	kind string
}

// NewPassthru registers name, which passes on to the device below.
func NewPassthru(g *Registry, name, below string, id uuid.UUID) (*Device, error) {
	return newPassthru(g, name, below, id, "passthru")
}

func newPassthru(g *Registry, name, below string, id uuid.UUID, kind string) (*Device, error) {
	b, err := g.stand(below, kind+" "+name, "", true)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	d, err := b.raise(Config{
		Name: name, Product: kind, UUID: derived(id, b.Base(), kind+" "+name), Driver: &Passthru{b, kind}, Geometry: b.geometry(),
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Describe tells what it stands on.
func (p *Passthru) Describe() any {
	return map[string]any{p.kind: map[string]any{"base_bdev_name": p.Base().Name()}}
}

// Open gives the queue of one reactor.
func (p *Passthru) Open(r *reactor.Reactor) (Queue, error) {
	b, err := p.open(r)
	return &passthruQueue{b}, err
}

type passthruQueue struct{ below }

func (c *passthruQueue) Submit(q *Request) { c.c.Submit(q) }
