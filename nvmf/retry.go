package nvmf

// This file is the Command Retry Delay Times: how long a host should wait before it repeats a command that may go well later. Base
// Specification 2.0, "Status Field Definition", CRD, and "Host Behavior Support", ACRE.

// SetCRDT sets the three times, in units of 100 ms, that Identify Controller reports. The first is the one that answers name; 0 names
// none.
func (t *Target) SetCRDT(crdt [3]uint16) error {
	_, err := t.alter(DiscoveryNQN, "setting the command retry delay times", false, func(*Subsystem) error {
		t.crdt = crdt
		return nil
	})
	return err
}

// delaysRetries reports whether the host understands CRD, and there is a time to name.
func (k *controller) delaysRetries() bool {
	return k.f.hostBehavior[0] == 1 && k.share.pg.discovery.crdt[0] > 0
}

// delayed names the first retry delay in a status that a host may repeat. Path statuses are left alone: another path may serve
// the command at once.
func (q *queue) delayed(s Status) Status {
	if q.link == nil || !q.link.delays || s.OK() || s.DNR() || s.SCT() != 0 {
		return s
	}
	return s | 1<<crdShift
}
