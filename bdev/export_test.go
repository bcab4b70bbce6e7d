package bdev

// OnlyDiscard lets unmaps be discards.
func (u *Uring) OnlyDiscard() { u.discard = true }
