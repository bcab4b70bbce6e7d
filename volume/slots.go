package volume

import (
	"errors"
	"fmt"
)

// This file is the choice between the two slots of a pool.

// ReadSlots decodes both slots into s and gives the newest, by which the pool is opened, and the older one if the pool can be opened by
// that too, else nil. Only where neither is valid is the pool damaged (ErrPoolCorrupt, with what is wrong with each). A slot of a newer
// major version refuses the pool though the other slot is valid: writing would destroy it.
func ReadSlots(page [2][]byte, s *[2]Slot) (newest, older *Slot, err error) {
	err0, err1 := s[0].Decode(page[0], 0), s[1].Decode(page[1], 1)
	switch {
	case errors.Is(err0, ErrVersion):
		return nil, nil, err0
	case errors.Is(err1, ErrVersion):
		return nil, nil, err1
	case err0 != nil && err1 != nil:
		return nil, nil, fmt.Errorf("%w; %w", err0, err1)
	case err1 != nil:
		return &s[0], nil, nil
	case err0 != nil:
		return &s[1], nil, nil
	}
	newest, older = &s[0], &s[1]
	if older.Generation > newest.Generation {
		newest, older = older, newest
	}
	switch {
	case newest.Pool != older.Pool:
		return nil, nil, fmt.Errorf("%w: slot 0 belongs to pool %v and slot 1 to pool %v", ErrPoolCorrupt, s[0].Pool, s[1].Pool)
	case newest.Generation == older.Generation:
		return nil, nil, fmt.Errorf("%w: both slots have the generation %d: two programs wrote to the pool", ErrPoolCorrupt, newest.Generation)
	case newest.Generation != older.Generation+1:
		return newest, nil, nil // writes to one slot were lost: what it refers to may be gone
	}
	return newest, older, nil
}
