package initiator

import "github.com/pollux-storage/pollux/nvmf"

// This file is the Abort command, by which a target is asked to end a request early. It is best effort: the answer to the
// request says how it ended.

// abortRequest is an Abort on its way.
type abortRequest struct{ a *association }

// abort asks for the end of a command. It may be called on any reactor; aborts are rare, so it allocates.
func (a *association) abort(id nvmf.QID, cid nvmf.CID) {
	_ = a.home.Go(func() {
		q := a.admin
		// Base Specification 2.0, "Abort command": ACL + 1 at once; those above it would be refused.
		if a.aborts == a.abortsMax || !q.hasSlot() {
			return
		}
		a.aborts++
		c := q.acquire(abortRequest{a})
		c.sqe.Init(uint8(nvmf.AdminAbort), 0, 0)
		c.sqe.SetAbort(id, cid)
		q.start(c)
	})
}

// answered takes the answer, of which nothing depends.
func (b abortRequest) answered(nvmf.CQE) { b.a.aborts-- }

// lost hears that the Admin queue ended.
func (b abortRequest) lost(bool) { b.a.aborts-- }
