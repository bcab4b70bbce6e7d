package nvmf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/durable"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the write protection of a namespace, feature 84h. Base Specification 2.0, "Namespace Write Protection".
//
// Write Protect is to outlive a restart, so only a namespace that has a file to keep it in can be protected. From Write Protect
// Until Power Cycle there is no way back but a restart of the engine. Permanent Write Protect is not offered: the device would
// have to bear it, wherever it is served.
//
// What happens when a host protects a namespace, in this order:
//
//	1  the state is durable in the file
//	2  every reactor refuses writes: commands that have not begun, those that wait for their data too
//	3  writes that had begun have ended
//	4  what the device's volatile cache holds is durable
//	5  the Set Features is answered
//
// A crash after 1 leaves the namespace protected though nobody was told so. The other way round somebody would have been told.

// WriteProtection is the state.
type WriteProtection uint8

// The states.
const (
	WriteProtectNone         WriteProtection = 0
	WriteProtect             WriteProtection = 1
	WriteProtectUntilRestart WriteProtection = 2 // "Until Power Cycle"
	WriteProtectPermanent    WriteProtection = 3
)

// String gives the state in lower case.
func (p WriteProtection) String() string {
	switch p {
	case WriteProtectNone:
		return "none"
	case WriteProtect:
		return "write_protect"
	case WriteProtectUntilRestart:
		return "until_power_cycle"
	case WriteProtectPermanent:
		return "permanent"
	}
	return fmt.Sprintf("write protection %d", uint8(p))
}

// protect changes the state and returns when it holds.
func (t *Target) protect(s *Subsystem, id NSID, to WriteProtection) Status {
	t.mu.Lock()
	n, err := s.namespaceAt(id)
	if err != nil {
		t.mu.Unlock()
		return StatusInvalidNamespace | DNR
	}
	was, is, readOnly := n.protection, n.protection, n.handle.Device().Geometry().ReadOnly
	if readOnly {
		is = WriteProtect
	}
	// "Namespace Write Protection Config": a state that cannot be left, or not be entered here.
	if to != is && (readOnly || n.ProtectionFile == "" || was == WriteProtectUntilRestart || to == WriteProtectPermanent) {
		t.mu.Unlock()
		return StatusFeatureNotChangeable | DNR
	}
	if to == is && (readOnly || is == WriteProtectNone) {
		t.mu.Unlock()
		return StatusSuccess
	}
	if err := n.keepProtection(to); err != nil {
		t.mu.Unlock()
		t.log.Error("a namespace's write protection could not be kept", "subsystem", s.o.NQN, "nsid", id, "error", err)
		return StatusInternal
	}
	n.protection = to
	t.mu.Unlock()
	if t.publish(s, false) != nil {
		return StatusInternal
	}
	t.log.Info("a host changed a namespace's write protection", "subsystem", s.o.NQN, "nsid", id, "from", was, "to", to)
	if to == WriteProtectNone {
		return StatusSuccess
	}
	t.endWrites(s, n)
	return t.flush(s, n)
}

// endWrites waits for the writes on a namespace that had begun before it was protected.
func (t *Target) endWrites(s *Subsystem, n *Namespace) {
	for left := -1; left != 0; {
		left = 0
		_ = t.group.Each(func(r *reactor.Reactor) {
			if share := t.groups[r.Index()].shares[s]; share != nil {
				for _, q := range share.queues {
					left += q.writing(n)
				}
			}
		})
		if left > 0 {
			time.Sleep(time.Millisecond) // control work: the reactors go on meanwhile
		}
	}
}

// writing counts the queue's commands that are writing to a namespace.
func (q *queue) writing(n *Namespace) (left int) {
	for i := range q.commands {
		c := &q.commands[i]
		if c.state == commandExecuting && c.ns != nil && c.ns.ns == n && c.modifies() {
			left++
		}
	}
	return left
}

// protectFlush is a flush of a namespace's device, for control work.
type protectFlush struct {
	req  bdev.Request
	ns   *namespaceShare
	done chan bdev.Status
}

// RequestDone hears the end of the flush.
func (f *protectFlush) RequestDone(r *bdev.Request) {
	s := r.Status
	f.ns.leave(StatusSuccess)
	f.req.Release()
	f.done <- s
}

// flush makes durable what the namespace's device holds in a volatile cache, on the reactor that owns the subsystem.
func (t *Target) flush(s *Subsystem, n *Namespace) Status {
	f := &protectFlush{done: make(chan bdev.Status, 1)}
	f.req.Kind, f.req.Done = bdev.Flush, f
	err := t.group.Reactor(s.owner).Call(func() {
		share := t.groups[s.owner].shares[s]
		if share == nil || int(n.NSID) > len(share.ns) || share.ns[n.NSID-1] == nil || share.ns[n.NSID-1].ns != n {
			f.done <- bdev.StatusOK // removed meanwhile
			return
		}
		f.ns = share.ns[n.NSID-1]
		if !f.ns.ch.Geometry().Volatile {
			f.done <- bdev.StatusOK
			return
		}
		f.ns.enter()
		f.ns.ch.Submit(&f.req)
	})
	if err != nil {
		return StatusInternal
	}
	if status := <-f.done; status != bdev.StatusOK {
		t.log.Error("a namespace is write protected, but its device could not be flushed", "subsystem", s.o.NQN, "nsid", n.NSID, "device", n.BdevName, "status", status.String())
		return StatusOf(status, bdev.Flush)
	}
	return StatusSuccess
}

// keptProtection is the file: JSON, with a version of its own.
type keptProtection struct {
	Version   int       `json:"version"`
	UUID      uuid.UUID `json:"uuid"` // of the namespace
	Protected bool      `json:"write_protect"`
}

const keptProtectionVersion = 1

// keepProtection writes to the file what a restart is to find: Write Protect, or none.
func (n *Namespace) keepProtection(to WriteProtection) error {
	if (to == WriteProtect) == (n.protection == WriteProtect) {
		return nil
	}
	b, err := json.MarshalIndent(keptProtection{keptProtectionVersion, n.UUID, to == WriteProtect}, "", "  ")
	if err == nil {
		err = durable.Replace(n.ProtectionFile, b)
	}
	if err != nil {
		return fmt.Errorf("keeping write protection in %s: %w", n.ProtectionFile, err)
	}
	return nil
}

// restoreProtection reads the file of a namespace that is being added; none yet is no protection.
func (n *Namespace) restoreProtection() error {
	if n.ProtectionFile == "" {
		return nil
	}
	b, err := os.ReadFile(n.ProtectionFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var k keptProtection
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading write protection from %s: %w", n.ProtectionFile, err)
	case k.Version != keptProtectionVersion:
		return fmt.Errorf("reading write protection from %s: %w: version %d, this build knows %d", n.ProtectionFile, ErrInvalid, k.Version, keptProtectionVersion)
	case k.UUID != n.UUID:
		return fmt.Errorf("reading write protection from %s: %w: it is of namespace %s, not %s; give this one a file of its own", n.ProtectionFile, ErrInvalid, k.UUID, n.UUID)
	}
	if k.Protected {
		n.protection = WriteProtect
	}
	return nil
}
