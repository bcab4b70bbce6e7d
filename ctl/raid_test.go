package ctl

import (
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

func raidNames(t *testing.T, c *api.Client, category string) []string {
	var out []string
	for _, r := range must(t, c, api.BdevRaidGetBdevs, api.BdevRaidGetBdevsParams{Category: category}) {
		out = append(out, r.Name)
	}
	return out
}

func TestJoinedDevicesAreMadeSavedAndDeleted(t *testing.T) {
	e, c := dialEngine(t)
	for _, name := range []string{"m0", "m1", "m2"} {
		must(t, c, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: name, NumBlocks: 1001, BlockSize: 512})
	}
	must(t, c, api.BdevRaidSetOptions, api.BdevRaidSetOptionsParams{ProcessWindowSizeKB: new(uint32(1024))})
	must(t, c, api.BdevRaidCreate, api.BdevRaidCreateParams{Name: "r0", RaidLevel: "raid0", BaseBdevs: []string{"m0", "m1"}, StripSizeKB: 4, UUID: "fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2"})
	must(t, c, api.BdevRaidCreate, api.BdevRaidCreateParams{Name: "r1", RaidLevel: "concat", BaseBdevs: []string{"r0", "m2"}, StripSizeKB: 64})
	all := must(t, c, api.BdevRaidGetBdevs, api.BdevRaidGetBdevsParams{Category: "all"})
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	r := all[0]
	if r.Name != "r0" || r.UUID != "fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2" || r.StripSizeKB != 4 || r.State != "online" || r.RaidLevel != "raid0" || r.Superblock ||
		r.NumBaseBdevs != 2 || r.NumBaseBdevsDiscovered != 2 || r.NumBaseBdevsOperational != 2 || len(r.BaseBdevsList) != 2 {
		t.Errorf("%+v", r)
	}
	if m := r.BaseBdevsList[1]; *m.Name != "m1" || !m.IsConfigured || m.DataOffset != 0 || m.DataSize != 1000 || m.UUID == "" {
		t.Errorf("%+v", m)
	}
	if got := raidNames(t, c, "online"); !slices.Equal(got, []string{"r0", "r1"}) {
		t.Error(got)
	}
	if got := append(raidNames(t, c, "configuring"), raidNames(t, c, "offline")...); len(got) != 0 {
		t.Error(got)
	}
	d := must(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "r1"})[0]
	if d.ProductName != "Raid Volume" || d.NumBlocks != 1920+896 {
		t.Errorf("%+v", d)
	}
	if text := reload(t, c, "bdev"); !strings.Contains(text, `"raid_level": "concat"`) {
		t.Error(text)
	}
	u := openDevice(t, e, "r1")
	if s := u.do(e, bdev.Write, make([]byte, 512)); s != bdev.StatusOK {
		t.Error(s)
	}
	u.close()

	must(t, c, api.BdevRaidDelete, api.BdevRaidDeleteParams{Name: "r1"})
	must(t, c, api.BdevRaidRemoveBaseBdev, api.BdevNameParams{Name: "m1"})
	if got := raidNames(t, c, "all"); len(got) != 0 {
		t.Errorf("without a member: %v", got)
	}
	if got := savedMethods(t, c); !slices.Equal(got, []string{"bdev_raid_set_options", "bdev_malloc_create", "bdev_malloc_create", "bdev_malloc_create"}) {
		t.Errorf("saved %v", got)
	}
	must(t, c, api.BdevMallocDelete, api.BdevNameParams{Name: "m0"})
}

func TestJoinedDevicesSayWhatTheyRefuse(t *testing.T) {
	_, c := dialEngine(t)
	newBase(t, c, "m0")
	must(t, c, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: "m1", NumBlocks: 1000, BlockSize: 4096})
	make := func(p api.BdevRaidCreateParams, code int, says string) {
		t.Helper()
		p.Name = "r0"
		if p.BaseBdevs == nil {
			p.BaseBdevs = []string{"m0"}
		}
		if p.RaidLevel == "" {
			p.RaidLevel = "raid0"
		}
		refused(t, c, api.BdevRaidCreate, p, code, says)
	}
	make(api.BdevRaidCreateParams{RaidLevel: "raid1"}, -22, "copies are replicas")
	make(api.BdevRaidCreateParams{RaidLevel: "5f", StripSizeKB: 4}, -22, "copies are replicas")
	make(api.BdevRaidCreateParams{}, -22, "a power of two")
	make(api.BdevRaidCreateParams{StripSizeKB: 12}, -22, "a power of two")
	make(api.BdevRaidCreateParams{StripSizeKB: 4, Superblock: true}, -22, "superblock")
	make(api.BdevRaidCreateParams{StripSizeKB: 4, BaseBdevs: []string{"m0", "none"}}, -19, "none")
	make(api.BdevRaidCreateParams{StripSizeKB: 4, BaseBdevs: []string{"m0", "m1"}}, -22, "they must be the same")
	must(t, c, api.BdevRaidCreate, api.BdevRaidCreateParams{Name: "r1", RaidLevel: "0", BaseBdevs: []string{"m0"}, StripSizeKB: 4})
	make(api.BdevRaidCreateParams{StripSizeKB: 4}, -16, "stripe r1")
	refused(t, c, api.BdevRaidCreate, api.BdevRaidCreateParams{Name: "r1", RaidLevel: "0", BaseBdevs: []string{"m1"}, StripSizeKB: 4}, -17, "r1")
	refused(t, c, api.BdevRaidAddBaseBdev, api.BdevRaidAddBaseBdevParams{RaidBdev: "r1", BaseBdev: "m1"}, -22, "all its members")
	refused(t, c, api.BdevRaidAddBaseBdev, api.BdevRaidAddBaseBdevParams{RaidBdev: "none", BaseBdev: "m1"}, -19, "none")
	refused(t, c, api.BdevRaidRemoveBaseBdev, api.BdevNameParams{Name: "m1"}, -19, "it is in none")
	refused(t, c, api.BdevRaidRemoveBaseBdev, api.BdevNameParams{Name: "none"}, -19, "none")
	refused(t, c, api.BdevRaidDelete, api.BdevRaidDeleteParams{Name: "m1"}, -22, "not joined devices")
}
