package ctl

import (
	"context"
	"syscall"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the methods about devices joined of several. SPDK waits for members that are not there yet, keeps a set that lost
// one in the state offline, and writes sets on their members so that they are found again. Here a set is there with all its
// members or not at all, so its only state is online; what was saved is made again by the saved calls.

func (e *Engine) registerRaid() {
	r := e.Methods
	RegisterDo(r, api.BdevRaidCreate, func(_ context.Context, p *api.BdevRaidCreateParams) error { return e.createRaid(p) })
	RegisterDo(r, api.BdevRaidDelete, func(ctx context.Context, p *api.BdevRaidDeleteParams) error {
		d, err := deviceOf[*bdev.Stripe](e, p.Name, "joined devices")
		if err != nil {
			return err
		}
		return e.unregister(ctx, d)
	})
	Register(r, api.BdevRaidGetBdevs, func(_ context.Context, p *api.BdevRaidGetBdevsParams) ([]api.RaidBdev, error) {
		var out []api.RaidBdev
		for _, d := range e.Bdevs.Devices() {
			if s, ok := d.Driver().(*bdev.Stripe); ok && (p.Category == "all" || p.Category == raidOnline) {
				out = append(out, describeRaid(d, s))
			}
		}
		return out, nil
	})
	RegisterDo(r, api.BdevRaidAddBaseBdev, func(_ context.Context, p *api.BdevRaidAddBaseBdevParams) error {
		d, err := deviceOf[*bdev.Stripe](e, p.RaidBdev, "joined devices")
		if err != nil {
			return err
		}
		return api.Errno(syscall.EINVAL, "add %s to %s: it has all its members; delete it and create it with one more, which makes a new device without the old data",
			p.BaseBdev, d.Name())
	})
	RegisterDo(r, api.BdevRaidRemoveBaseBdev, e.removeMember)
}

const raidOnline = "online"

func (e *Engine) createRaid(p *api.BdevRaidCreateParams) error {
	o := bdev.StripeOptions{Members: p.BaseBdevs, StripBytes: uint64(p.StripSizeKB) << 10, UUID: parseUUID(p.UUID)}
	switch p.RaidLevel {
	case "raid0", "0":
	case "concat":
		o.Level = bdev.StripeConcat
	default:
		return api.Errno(syscall.EINVAL, "creating %s: the level %s is not offered; raid0 and concat are, and copies are replicas of a volume", p.Name, p.RaidLevel)
	}
	if p.Superblock {
		return api.Errno(syscall.EINVAL, "creating %s: a superblock on the members is not offered; save the configuration to have the device again", p.Name)
	}
	d, err := bdev.NewStripe(e.Bdevs, p.Name, o)
	if err != nil {
		return codeOf(err)
	}
	e.devices.made(d.Name(), api.BdevRaidCreate.Config(*p))
	return nil
}

// removeMember takes a device out of the set that it is in. Without one of its members a set without copies ends.
func (e *Engine) removeMember(ctx context.Context, p *api.BdevNameParams) error {
	member, err := e.Bdevs.Lookup(p.Name)
	if err != nil {
		return codeOf(err)
	}
	for _, d := range e.Bdevs.Devices() {
		s, ok := d.Driver().(*bdev.Stripe)
		if !ok {
			continue
		}
		for _, m := range s.Members() {
			if m.Device == member {
				return e.unregister(ctx, d)
			}
		}
	}
	return api.Errno(syscall.ENODEV, "take %s out of joined devices: it is in none; bdev_raid_get_bdevs lists them", member.Name())
}

func describeRaid(d *bdev.Device, s *bdev.Stripe) api.RaidBdev {
	members := s.Members()
	n := uint32(len(members))
	g := d.Geometry()
	out := api.RaidBdev{
		Name: d.Name(), UUID: d.UUID().String(), StripSizeKB: uint32(uint64(s.StripBlocks()) << g.Shift() >> 10), State: raidOnline, RaidLevel: s.Level().String(),
		NumBaseBdevs: n, NumBaseBdevsDiscovered: n, NumBaseBdevsOperational: n,
	}
	for _, m := range members {
		name := m.Device.Name()
		out.BaseBdevsList = append(out.BaseBdevsList, api.RaidBaseBdev{Name: &name, UUID: m.Device.UUID().String(), IsConfigured: true, DataSize: m.Blocks})
	}
	return out
}
