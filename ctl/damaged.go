package ctl

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is volumes that could not be opened with their pools. They are listed, and may be deleted; whatever else is asked of them is
// answered with what is wrong.

const damagedState = "damaged"

// damagedVolumes lists those of a pool, or of all.
func (e *Engine) damagedVolumes(pool string) []*volume.DamagedVolume {
	var all []*volume.DamagedVolume
	for _, p := range e.pools.list() {
		if pool == "" || p.Name() == pool || p.ID().String() == pool {
			all = append(all, p.Damaged()...)
		}
	}
	return all
}

// damagedName names one as POOL/VOLUME. Of some nothing but their position is known.
func damagedName(d *volume.DamagedVolume) string {
	if d.Number == 0 {
		return fmt.Sprintf("%s/position %d", d.Pool().Name(), d.Position)
	}
	return d.Pool().Name() + "/" + d.Name
}

// damagedVolume finds one by UUID or pool/volume, nil if there is none.
func (e *Engine) damagedVolume(name string) *volume.DamagedVolume {
	for _, d := range e.damagedVolumes("") {
		if damagedName(d) == name || d.Number != 0 && d.UUID.String() == name {
			return d
		}
	}
	return nil
}

func describeDamaged(d *volume.DamagedVolume) api.Volume {
	a := api.Volume{Name: d.Name, Pool: d.Pool().Name(), State: damagedState, Bytes: d.Bytes, BlockSize: d.BlockBytes}
	if d.Number == 0 {
		a.Name = fmt.Sprintf("position %d", d.Position)
	} else {
		a.UUID = d.UUID.String()
	}
	return a
}

func (e *Engine) deleteDamaged(d *volume.DamagedVolume, force bool) (api.JobStarted, error) {
	about := api.Job{Method: api.VolumeDelete.Name, Object: damagedName(d), Unit: "clusters"}
	return e.Jobs.Start(about, func(ctx context.Context, progress Progress) error {
		return d.Pool().DeleteDamaged(ctx, d, force, progress.Set)
	})
}
