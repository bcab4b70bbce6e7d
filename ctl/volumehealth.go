package ctl

import (
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is what the engine's health has of its volumes: asked when somebody wants to know, since volumes tell nobody.

// engineStates are a volume's states as the engine's: one that takes no changes is not served as it was told to be.
var engineStates = [volume.States]string{volume.Healthy: HealthOK, volume.Degraded: HealthDegraded, volume.Unsafe: HealthFailed}

// health is the engine's, its volumes included.
func (e *Engine) health() api.EngineHealth {
	now := time.Now()
	here := map[string]bool{}
	for _, p := range e.pools.list() {
		for _, v := range p.Volumes() {
			i, err := v.Info()
			if err != nil {
				continue // it is being closed
			}
			h := i.Health(now)
			object := "volume " + p.Name() + "/" + i.Name
			here[object] = true
			why := ""
			if len(h.Reasons) > 0 {
				why = h.Reasons[0]
			}
			e.Health.Report(object, engineStates[h.State], why, now)
		}
	}
	for _, d := range e.damagedVolumes("") {
		object := "volume " + damagedName(d)
		here[object] = true
		e.Health.Report(object, HealthFailed, d.Problem(), now)
	}
	e.Health.forget("volume ", here)
	return e.Health.State()
}
