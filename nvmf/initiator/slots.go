package initiator

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
)

// slots are the commands that a queue may have at once.
type slots struct {
	commands []command
	free     *command
	used     int // commands that are not free
}

func (s *slots) init(n int) {
	invariant.Check(n > 0 && n <= slotsMax, "initiator: a queue of no commands, or of too many")
	s.commands = make([]command, n)
	for i := len(s.commands) - 1; i >= 0; i-- {
		c := &s.commands[i]
		c.index, c.next, s.free = uint16(i), s.free, c
	}
}

// limit leaves n slots, if there are more. None has been used yet.
func (s *slots) limit(n int) {
	if n < len(s.commands) {
		s.free = nil
		s.init(n)
	}
}

// acquire takes a slot, nil if there is none.
func (s *slots) acquire(o owner) *command {
	c := s.free
	if c == nil {
		return nil
	}
	s.free, c.next = c.next, nil
	s.used++
	c.prepare(o)
	return c
}

// release makes a slot free.
func (s *slots) release(c *command) {
	c.state, c.data, c.owner = commandFree, nil, nil
	c.next, s.free = s.free, c
	s.used--
}

// find gives the command that the target names, nil if it can have none of that name.
func (s *slots) find(cid nvmf.CID) *command {
	i := int(cid & (slotsMax - 1))
	if i >= len(s.commands) {
		return nil
	}
	if c := &s.commands[i]; c.state == commandSent && c.cid == cid {
		return c
	}
	return nil
}
