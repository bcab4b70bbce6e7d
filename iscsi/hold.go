package iscsi

// This file lets initiators wait until a target has all that it is to serve.
//
// A target comes to be piece by piece, and an initiator that comes back to a node that is not there yet is told that it does not exist (0203),
// which open-iscsi takes for final. So while a target holds, portals listen as soon as they are given, which tells whether they can, but no
// connection is taken. The system keeps those that come; open-iscsi gives a login 15 s and then tries anew.

// Hold lets initiators wait from now on that come by a portal that is opened from now on. Serve ends that.
func (t *Target) Hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding = true
}

// Serve takes the connections of initiators, those first that wait.
func (t *Target) Serve() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding = false
	for _, g := range t.portals {
		for _, p := range g.portals {
			if g.waiting {
				break
			}
			if err := p.accept(); err != nil {
				return err
			}
		}
	}
	return nil
}
