package nvmf_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// TARGETS 1.5, "any feature": unknown 0/02, SV 1/0D, not changeable 1/0E, NSID on a controller feature 1/0F, bad NSID 0/0B.
func TestRow_AnyFeature(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		const sv = 1 << 31
		for _, c := range []struct {
			why  string
			fid  nvmf.FID
			flag uint32
			id   nvmf.NSID
			v    uint32
			want nvmf.Status
		}{
			{"unknown", 0x3F, 0, 0, 0, nvmf.StatusInvalidField},
			{"unknown and to be saved", 0x3F, sv, 0, 0, nvmf.StatusInvalidField},
			{"to be saved", nvmf.FIDTemperature, sv, 0, 300, nvmf.StatusFeatureNotSaveable},
			{"to be saved, of a namespace", nvmf.FIDErrorRecovery, sv, 1, 0, nvmf.StatusFeatureNotSaveable},
			{"not changeable", nvmf.FIDArbitration, 0, 0, 3, nvmf.StatusFeatureNotChangeable},
			{"a namespace of a controller feature", nvmf.FIDTemperature, 0, 1, 300, nvmf.StatusFeatureNotNamespace},
			{"an NSID beyond NN", nvmf.FIDTemperature, 0, 33, 300, nvmf.StatusInvalidNamespace},
			{"all namespaces of a controller feature", nvmf.FIDTemperature, 0, nvmf.NSIDAll, 300, 0},
			{"no namespace of a namespace's", nvmf.FIDErrorRecovery, 0, 0, 1, nvmf.StatusInvalidNamespace},
			{"an inactive one", nvmf.FIDReservationMask, 0, 2, 0, nvmf.StatusInvalidNamespace},
			{"DULBE", nvmf.FIDErrorRecovery, 0, 1, 1 << 16, nvmf.StatusInvalidField},
			{"power state 1", nvmf.FIDPower, 0, 0, 1, nvmf.StatusInvalidField},
			{"a sensor that is not there", nvmf.FIDTemperature, 0, 0, 1<<16 | 300, nvmf.StatusInvalidField},
			{"a reserved threshold", nvmf.FIDTemperature, 0, 0, 2<<20 | 300, nvmf.StatusInvalidField},
			{"events beyond OAES", nvmf.FIDEvents, 0, 0, nvmf.OAESDiscovery, nvmf.StatusInvalidField},
			{"queues FFFFh", nvmf.FIDQueues, 0, 0, 0xFFFF, nvmf.StatusInvalidField},
			{"KATO 0", nvmf.FIDKeepAlive, 0, 0, 0, nvmf.StatusKeepAliveInvalid},
			{"HOSTID", nvmf.FIDHostID, 0, 0, 1, nvmf.StatusSequence},
			{"the cache of a device without one", nvmf.FIDVolatileCache, 0, 0, 1, nvmf.StatusInvalidField},
		} {
			s := a.Cmd(nvmf.AdminSetFeatures)
			name(s, c.id)
			s.SetFID(c.fid, c.v)
			s.SetCDW(10, uint32(c.fid)|c.flag)
			if c.want != 0 {
				c.want |= nvmf.DNR
			}
			a.WantStatus(c.why, a.Do(s, nil), c.want)
		}
		a.WantStatus("Get, unknown", getFeature(a, 0x3F, 0, 0, 0), nvmf.StatusInvalidField|nvmf.DNR)
		a.WantStatus("Get, reserved SEL", getFeature(a, nvmf.FIDTemperature, 4, 0, 0), nvmf.StatusInvalidField|nvmf.DNR)
		a.WantStatus("Get, an inactive namespace", getFeature(a, nvmf.FIDErrorRecovery, 0, 2, 0), nvmf.StatusInvalidNamespace|nvmf.DNR)
		e.Queue(a, 1, 32)
		a.WantStatus("queues after one was made", setFeature(a, nvmf.FIDQueues, 0, 0), nvmf.StatusSequence|nvmf.DNR)
	})
}

// "Get Features command", Select, and what a reset of the controller leaves. Base Specification 2.1, "Set Features command,
// Feature Identifiers": none of these persists.
func TestRow_FeatureValues(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		p := e.Open(0, 32, 0)
		cqe := p.ConnectAs(0, 32, 0, 20000, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
		p.WantStatus("Connect", cqe, nvmf.StatusSuccess)
		p.Enable()
		rows := []struct {
			fid        nvmf.FID
			id         nvmf.NSID
			cdw11      uint32 // that names it
			before     uint32
			set, after uint32
			caps       uint32
		}{
			{nvmf.FIDArbitration, 0, 0, 6, 0, 6, 0},
			{nvmf.FIDPower, 0, 0, 0, 0, 0, nvmf.FeatureChangeable},
			{nvmf.FIDTemperature, 0, 0, 0x157, 300, 300, nvmf.FeatureChangeable},
			{nvmf.FIDTemperature, 0, 1 << 20, 0, 1<<20 | 200, 200, nvmf.FeatureChangeable},
			{nvmf.FIDErrorRecovery, 1, 0, 0, 7, 7, nvmf.FeatureChangeable | nvmf.FeatureNamespace},
			{nvmf.FIDQueues, 0, 0, 126<<16 | 126, 3<<16 | 3, 3<<16 | 3, nvmf.FeatureChangeable},
			{nvmf.FIDAtomicity, 0, 0, 0, 0, 0, nvmf.FeatureChangeable},
			{nvmf.FIDEvents, 0, 0, 0, nvmf.OAESNamespaces, nvmf.OAESNamespaces, nvmf.FeatureChangeable},
			{nvmf.FIDKeepAlive, 0, 0, 20000, 30000, 30000, nvmf.FeatureChangeable},
			{nvmf.FIDReservationMask, 1, 0, 0, nvmf.ReservationMaskAll, nvmf.ReservationMaskAll, nvmf.FeatureChangeable | nvmf.FeatureNamespace},
		}
		want := func(why string, fid nvmf.FID, sel nvmf.SEL, id nvmf.NSID, cdw11, v uint32) {
			t.Helper()
			cqe := getFeature(p, fid, sel, id, cdw11)
			p.WantStatus(fmt.Sprintf("%s, feature %02Xh", why, uint8(fid)), cqe, nvmf.StatusSuccess)
			if cqe.DW0 != v {
				t.Errorf("%s, feature %02Xh, CDW11 %#x: %#x, want %#x", why, uint8(fid), cdw11, cqe.DW0, v)
			}
		}
		for range 2 {
			for _, r := range rows {
				want("at first", r.fid, nvmf.SELCurrent, r.id, r.cdw11, r.before)
				if r.caps&nvmf.FeatureChangeable != 0 {
					p.WantStatus("set", setFeature(p, r.fid, r.id, r.set), nvmf.StatusSuccess)
				}
				want("current", r.fid, nvmf.SELCurrent, r.id, r.cdw11, r.after)
				want("default", r.fid, nvmf.SELDefault, r.id, r.cdw11, r.before)
				want("saved", r.fid, nvmf.SELSaved, r.id, r.cdw11, r.before)
				want("capabilities", r.fid, nvmf.SELSupported, r.id, r.cdw11, r.caps)
			}
			reset(p)
		}
		_, page := logPage(p, nvmf.LogPage{LID: nvmf.LIDFeatures, Bytes: 1024})
		for i := range 256 {
			fid := nvmf.FID(i)
			s := p.Cmd(nvmf.AdminGetFeatures)
			name(s, 1)
			s.SetFID(fid, 1)
			s[41] = byte(nvmf.SELSupported)
			cqe := p.Do(s, nil)
			e := nvmf.Effects(binary.LittleEndian.Uint32(page[4*i:]))
			if cqe.Status.OK() != (e&nvmf.EffectsSupported != 0) || e&nvmf.ScopeNamespace != 0 != (cqe.DW0&nvmf.FeatureNamespace != 0) {
				t.Errorf("feature %02Xh: %v, capabilities %#x, page 12h has %#x", i, cqe.Status, cqe.DW0, uint32(e))
			}
		}
		if c, _ := nvmf.DecodeIdentifyController(identify(t, p, nvmf.CNSController, 0)); c.ONCS&nvmf.ONCSSave == 0 {
			t.Error("ONCS does not say that Select is known")
		}
	})
}

// anaPage reads log page 0Ch.
func anaPage(t *testing.T, p *nvmftest.Peer, groupsOnly bool) (uint64, []nvmf.ANAGroup) {
	t.Helper()
	l := nvmf.LogPage{LID: nvmf.LIDANA, Bytes: 4096}
	if groupsOnly {
		l.LSP = nvmf.LSPANAGroupsOnly
	}
	cqe, b := logPage(p, l)
	p.WantStatus("the ANA page", cqe, nvmf.StatusSuccess)
	n, groups, err := nvmf.DecodeANALog(b)
	if err != nil {
		t.Fatal(err)
	}
	return n, groups
}

// TARGETS 1.8, "log 0C": NSIDs ascend in each group, RGO leaves them out, and the change count moves with everything that the page shows.
func TestRow_ANALog(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = true }})
		a := e.Admin()
		for i := range 3 {
			if _, err := bdev.NewMem(e.Bdevs, fmt.Sprintf("More%d", i), [16]byte{byte(i + 1)}, 4096, 256); err != nil {
				t.Fatal(err)
			}
		}
		last, groups := anaPage(t, a, false)
		if fmt.Sprint(groups[0].NSIDs) != "[1]" || groups[0].ID != 1 || groups[0].State != nvmf.ANAOptimized {
			t.Errorf("%+v", groups)
		}
		add := func(bdev string, id nvmf.NSID, group uint32, hidden bool) func() error {
			return func() error {
				_, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: bdev, NSID: id, ANAGroup: group, NoAutoVisible: hidden})
				return err
			}
		}
		for _, c := range []struct {
			why    string
			change func() error
			want   string // NSIDs by group
		}{
			{"added", add("More0", 7, 1, false), "1:[1 7] "},
			{"added between", add("More1", 4, 1, false), "1:[1 4 7] "},
			{"hidden", add("More2", 5, 9, true), "1:[1 4 7] "},
			{"shown", func() error { return e.Target.ShowNamespace(nvmftest.NQN, 5, nvmftest.Host, true) }, "1:[1 4 7] 9:[5] "},
			{"moved", func() error { return e.Target.SetANAGroup(nvmftest.NQN, 1, 9) }, "1:[4 7] 9:[1 5] "},
			{"taken from sight", func() error { return e.Target.ShowNamespace(nvmftest.NQN, 5, nvmftest.Host, false) }, "1:[4 7] 9:[1] "},
			{"removed", func() error { return e.Target.RemoveNamespace(t.Context(), nvmftest.NQN, 4) }, "1:[7] 9:[1] "},
			{"device gone", func() error { return e.Bdevs.Unregister(t.Context(), "More0") }, "9:[1] "},
			{"state", func() error {
				return e.Target.SetANAState(nvmftest.NQN, e.At, nvmf.ANAInaccessible, 9)
			}, "9:[1] "},
		} {
			if err := c.change(); err != nil {
				t.Fatal(c.why, err)
			}
			n, groups := anaPage(t, a, false)
			got := ""
			for _, g := range groups {
				got += fmt.Sprintf("%d:%v ", g.ID, g.NSIDs)
				if g.CHGCNT > n {
					t.Errorf("%s: group %d has change count %d, the page %d", c.why, g.ID, g.CHGCNT, n)
				}
			}
			if got != c.want || n <= last {
				t.Errorf("%s: %s, want %s; change count %d after %d", c.why, got, c.want, n, last)
			}
			last = n
			_, only := anaPage(t, a, true)
			for _, g := range only {
				if len(g.NSIDs) > 0 {
					t.Errorf("%s: RGO and NSIDs %v", c.why, g.NSIDs)
				}
			}
			if len(only) != len(groups) {
				t.Errorf("%s: %d groups with RGO, %d without", c.why, len(only), len(groups))
			}
		}
	})
}

// TARGETS 1.8, "what still works".
func TestRow_ANAFeatures(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = true }})
		a := e.Admin()
		if err := e.Target.SetANAState(nvmftest.NQN, e.At, nvmf.ANAInaccessible, 0); err != nil {
			t.Fatal(err)
		}
		path := nvmf.StatusANAInaccessible
		for fid, want := range map[nvmf.FID]nvmf.Status{
			nvmf.FIDErrorRecovery: path, nvmf.FIDReservationMask: path, nvmf.FIDReservationPTPL: path,
			nvmf.FIDTemperature: 0, nvmf.FIDEvents: 0, nvmf.FIDWriteProtect: 0,
		} {
			id := nvmf.NSID(1)
			if fid == nvmf.FIDTemperature || fid == nvmf.FIDEvents {
				id = 0
			}
			a.WantStatus(fmt.Sprintf("Get %02Xh", uint8(fid)), getFeature(a, fid, 0, id, 0), want)
			a.WantStatus(fmt.Sprintf("Set %02Xh", uint8(fid)), setFeature(a, fid, id, 0), want)
		}
		a.WantStatus("the mask of all", setFeature(a, nvmf.FIDReservationMask, nvmf.NSIDAll, 0), path)
		if n := identifyNS(t, a, 1); n.NUSE != 0 || n.NSZE == 0 {
			t.Errorf("NUSE %d, NSZE %d", n.NUSE, n.NSZE)
		}
		anaPage(t, a, false)
	})
}

// TARGETS 1.5, "ANACAP …": 16+32×NANAGRPID+4×MNAN fits MDTS, or Linux does without ANA.
func TestRow_ANAPageFitsMDTS(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Transport: func(o *nvmf.TransportOptions) { o.MaxIOBytes = 16384 }})
		for _, c := range []struct {
			most uint32
			ana  bool
			want bool
		}{{454, true, true}, {455, true, false}, {455, false, true}, {1 << 16, false, true}, {1<<16 + 1, false, false}} {
			nqn := fmt.Sprintf("%s-%d-%t", nvmftest.NQN, c.most, c.ana)
			err := e.Target.CreateSubsystem(nvmf.SubsystemOptions{NQN: nqn, AllowAnyHost: true, MaxNamespaces: c.most, ANA: c.ana})
			if (err == nil) != c.want {
				t.Errorf("max_namespaces %d, ANA %t: %v", c.most, c.ana, err)
			}
			if err != nil || !c.ana {
				continue
			}
			at := e.Another(nqn)
			k, _ := nvmf.DecodeIdentifyController(identify(t, found(at, nqn, nvmftest.Host), nvmf.CNSController, 0))
			if k.MNAN == 0 || k.MNAN > k.NN || uint64(nvmf.ANALogBytes(int(k.NANAGRPID), int(k.MNAN))) > k.TransferBytesMax(4096) {
				t.Errorf("MNAN %d, NN %d, NANAGRPID %d, MDTS %d", k.MNAN, k.NN, k.NANAGRPID, k.MDTS)
			}
		}
	})
}
