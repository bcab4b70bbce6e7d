package volume

import (
	"errors"
	"fmt"
	"slices"
)

// This file is the deletion of a damaged volume of which it is not known what it has: its page cannot be read, or it has snapshots whose list
// cannot be. Who forces it gives up what may be read of the volume another day.
//
//	1. a commit takes the volume out of the directory, and one more does so for the older slot: it is gone
//	2. the others are walked through, as by a check; no commit is made meanwhile
//	3. what is in the root, and to which nothing leads, was the volume's: a commit frees it
//
// Step 3 frees nothing as long as anything else is wrong with the pool: what cannot be read may lead to it. The deletion of the last damaged
// volume frees it then. A crash before its commit leaves it taken: checks name it, and nothing else frees it.
//
// A clone shares pages of its parent's snapshots without a sign of it, so a volume that may have clones stays. One whose own page was damaged then
// was not known as a clone: as long as it is one, nothing is freed, since no walk leads to what it shares.

// ErrCloned refuses to delete a damaged volume by force.
var ErrCloned = fmt.Errorf("%w: it may have clones", ErrBusy)

// errLeftTaken says that what a volume had stays taken.
var errLeftTaken = errors.New("the volume is gone, and what it had stays taken")

// deleteForced deletes a damaged volume. acts is held.
func (p *Pool) deleteForced(d *DamagedVolume) error {
	if err := p.takeOut(d, p.Volumes()); err != nil {
		return err
	}
	err := p.endQuarantine(d)
	if err == nil {
		err = p.freeLost()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errLeftTaken, err)
		p.problem("of a volume that was deleted by force: %v", err)
	}
	return err
}

// takeOut takes a damaged volume out of both roots. served are those that are not damaged.
func (p *Pool) takeOut(d *DamagedVolume, served []*Volume) error {
	if of := p.mayBeClonesOf(d, served); len(of) > 0 {
		return fmt.Errorf("%w, %v: flatten or delete them first", ErrCloned, of)
	}
	v := &Volume{pool: p, page: d.page, ref: d.ref}
	v.page.Position = d.Position
	m := &commitMessage{unrefer: []Place{d.ref.Place}, unextents: d.page.Log, released: d.places}
	if err := p.commitNow(v, Ref{}, m); err != nil {
		return err
	}
	p.mu.Lock()
	p.damaged = slices.DeleteFunc(p.damaged, func(x *DamagedVolume) bool { return x == d })
	p.mu.Unlock()
	p.branched(&VolumePage{Number: d.page.Number})
	return p.twice()
}

// deleteQuarantining deletes the volumes for which no free cluster could be given to others, while the pool is imported: what the logs of the others
// name is theirs by now. It reports whether there were any.
func (p *Pool) deleteQuarantining(served []*Volume) (some bool, err error) {
	for _, d := range p.Damaged() {
		if d.all == nil {
			continue
		}
		if err := p.takeOut(d, served); err != nil {
			return some, fmt.Errorf("deleting the damaged volume at position %d (%s): %w", d.Position, d.Name, err)
		}
		if err := p.r.Call(func() { p.alloc.Unreserve(d.owed.need()) }); err != nil {
			return some, err
		}
		some = true
	}
	return some, nil
}

// mayBeClonesOf names the volumes that may have come from a snapshot of a damaged one.
func (p *Pool) mayBeClonesOf(d *DamagedVolume, served []*Volume) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := map[VolumeNumber]string{}
	for _, v := range served {
		names[v.page.Number] = v.name.String()
	}
	for _, x := range p.damaged {
		if x.Number != 0 {
			names[x.Number] = x.Name
		}
	}
	var all []string
	for number, o := range p.origins {
		if _, known := names[o.volume]; o.volume == d.Number || d.Number == 0 && !known {
			name := names[number]
			if name == "" {
				name = fmt.Sprintf("number %d, which is being deleted", number)
			}
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// orphans names the clones whose parent is neither served nor damaged.
func (p *Pool) orphans() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, o := range p.origins {
		if p.volumes[o.volume] != nil || slices.ContainsFunc(p.damaged, func(d *DamagedVolume) bool { return d.Number == o.volume }) {
			continue
		}
		name := fmt.Sprintf("number %d", number)
		if c := p.volumes[number]; c != nil {
			name = c.name.String()
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// freeLost frees what is in the root, and to which nothing leads.
func (p *Pool) freeLost() error {
	p.checking.mu.Lock()
	defer p.checking.mu.Unlock()
	if err := p.hold(); err != nil {
		return err
	}
	k := &poolCheck{p: p}
	lost, err := k.lost()
	p.letGo()
	if err != nil || len(lost) == 0 {
		return err
	}
	return p.change(&commitMessage{lost: lost})
}

// lost walks through the pool and gives what nothing leads to. Nobody can come to lead to it later.
func (k *poolCheck) lost() (lost []Extent, err error) {
	if err := k.run(); err != nil {
		return nil, err
	}
	r := &k.report
	if len(k.other) > 0 || r.Free > 0 {
		why := append(k.other, "pages are free to which something leads")[0]
		return nil, fmt.Errorf("%d pages in use to which nothing leads may be another's, since not all of the pool is as it should be: %s", r.Lost, why)
	}
	if of := k.p.orphans(); len(of) > 0 {
		return nil, fmt.Errorf("%d pages in use to which nothing leads may be shared with clones whose parent is gone, %v: flatten or delete them", r.Lost, of)
	}
	var all []Discrepancy
	err = k.p.r.Call(func() { all, _, _ = k.census.Compare(k.p.alloc, nil, int(r.Lost)) })
	for _, x := range all {
		if x.Lost {
			lost = append(lost, x.Extent)
		}
	}
	return lost, err
}
