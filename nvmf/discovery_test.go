package nvmf_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// found connects a host to the discovery service.
func found(e *nvmftest.Portal, nqn, host string) *nvmftest.Peer {
	e.T.Helper()
	return e.AdminAs(nvmf.ConnectData{SUBNQN: nqn, HOSTNQN: host})
}

func logPage(p *nvmftest.Peer, l nvmf.LogPage) (nvmf.CQE, []byte) {
	s := p.Cmd(nvmf.AdminGetLogPage)
	s.SetLogPage(l)
	return p.Read(s, int(l.Bytes))
}

// discover reads the whole page.
func discover(t *testing.T, p *nvmftest.Peer) (nvmf.DiscoveryHeader, []nvmf.DiscoveryEntry) {
	t.Helper()
	cqe, b := logPage(p, nvmf.LogPage{LID: nvmf.LIDDiscovery, Bytes: 64 << 10})
	p.WantStatus("the discovery page", cqe, nvmf.StatusSuccess)
	h, err := nvmf.DecodeDiscoveryHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	var out []nvmf.DiscoveryEntry
	for i := range h.NUMREC {
		e, _ := nvmf.DecodeDiscoveryEntry(b[1024*(i+1):])
		out = append(out, e)
	}
	return h, out
}

// TARGETS 1.7, "NQN": the well-known name and one of this engine alone lead to the service, which reports the latter.
func TestRow_DiscoveryNQN(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e, other := start(nvmftest.Options{}), start(nvmftest.Options{})
		subnqn := func(e *nvmftest.Portal, nqn string) string {
			c, _ := nvmf.DecodeIdentifyController(identify(t, found(e, nqn, nvmftest.Host), nvmf.CNSController, 0))
			if c.CNTRLTYPE != nvmf.ControllerDiscovery {
				t.Errorf("CNTRLTYPE %d", c.CNTRLTYPE)
			}
			return c.SUBNQN
		}
		unique := subnqn(e, nvmf.DiscoveryNQN)
		if !strings.HasPrefix(unique, nvmf.NQNUUIDPrefix) || nvmf.CheckNQN(unique) != nil {
			t.Errorf("SUBNQN %q", unique)
		}
		if again := subnqn(e, unique); again != unique {
			t.Errorf("by its own name the service says %q", again)
		}
		if subnqn(other, nvmf.DiscoveryNQN) == unique {
			t.Error("two engines have the same")
		}
	})
}

// TARGETS 1.7, "commands".
func TestRow_DiscoveryCommands(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		p := found(e, nvmf.DiscoveryNQN, nvmftest.Host)
		for l := range 256 {
			lid := nvmf.LID(l)
			cqe, _ := logPage(p, nvmf.LogPage{LID: lid, Bytes: 4096})
			want := nvmf.StatusInvalidLogPage | nvmf.DNR
			switch lid {
			case nvmf.LIDDiscovery, nvmf.LIDSupported, nvmf.LIDError, nvmf.LIDEffects, nvmf.LIDFeatures:
				want = nvmf.StatusSuccess
			}
			p.WantStatus(fmt.Sprintf("log page %02Xh", l), cqe, want)
		}
		_, page := logPage(p, nvmf.LogPage{LID: nvmf.LIDEffects, Bytes: 4096})
		_, features := logPage(p, nvmf.LogPage{LID: nvmf.LIDFeatures, Bytes: 1024})
		for i := range 256 {
			op, fid := nvmf.AdminOpcode(i), nvmf.FID(i)
			offered := binary.LittleEndian.Uint32(page[4*i:])&1 != 0
			switch op {
			case nvmf.AdminIdentify, nvmf.AdminGetLogPage, nvmf.AdminGetFeatures, nvmf.AdminSetFeatures, nvmf.AdminAER, nvmf.AdminKeepAlive:
				if !offered {
					t.Errorf("command %02Xh is not said to be offered", i)
				}
			default:
				if offered || binary.LittleEndian.Uint32(page[1024+4*i:]) != 0 {
					t.Errorf("command %02Xh is said to be offered", i)
				}
				if op != nvmf.AdminOpcode(nvmf.OpcodeFabrics) && i&3 == 0 {
					p.WantStatus(fmt.Sprintf("command %02Xh", i), p.Do(p.Cmd(op), nil), nvmf.StatusInvalidOpcode|nvmf.DNR)
				}
			}
			if has := binary.LittleEndian.Uint32(features[4*i:])&1 != 0; has != (fid == nvmf.FIDEvents || fid == nvmf.FIDKeepAlive) {
				t.Errorf("feature %02Xh: %t in page 12h", i, has)
			}
		}
		s := p.Cmd(nvmf.AdminIdentify)
		s.SetIdentify(nvmf.CNSActiveList, 0, 0)
		cqe, _ := p.Read(s, 4096)
		p.WantStatus("another CNS", cqe, nvmf.StatusInvalidField|nvmf.DNR)
		q, cqe := e.Try(1, nvmf.ConnectData{CNTLID: p.CNTLID, SUBNQN: nvmf.DiscoveryNQN, HOSTNQN: nvmftest.Host})
		q.WantStatus("an I/O queue", cqe, nvmf.StatusConnectParameters|nvmf.DNR)
	})
}

// TARGETS 1.7, "header, entry": GENCTR moves on every change that a host could see, and the event is told once until the page is read.
func TestRow_DiscoveryChanges(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }})
		p := found(e, nvmf.DiscoveryNQN, nvmftest.Host)
		const second = "nqn.2026-01.io.pollux:second"
		h, entries := discover(t, p)
		if len(entries) != 0 {
			t.Fatalf("a host that may not connect sees %+v", entries)
		}
		referral := nvmf.Referral{Address: nvmf.Address{TRType: "TCP", TrAddr: "192.0.2.1", TrSvcID: "8009"}}
		for _, c := range []struct {
			why     string
			change  func() error
			entries int
		}{
			{"host", func() error { return e.Target.AddHost(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{}) }, 1},
			{"subsystem", func() error { return e.Target.CreateSubsystem(nvmf.SubsystemOptions{NQN: second, AllowAnyHost: true}) }, 1},
			{"listener", func() error { return e.Target.AddListener(second, e.At, nvmf.ANAOptimized) }, 2},
			{"any host no more", func() error { return e.Target.AllowAnyHost(second, false) }, 1},
			{"any host", func() error { return e.Target.AllowAnyHost(second, true) }, 2},
			{"referral", func() error { return e.Target.AddReferral(referral) }, 3},
			{"no referral", func() error { return e.Target.RemoveReferral(referral) }, 2},
			{"listener gone", func() error { return e.Target.RemoveListener(t.Context(), second, e.At) }, 1},
			{"host gone", func() error { return e.Target.RemoveHost(t.Context(), nvmftest.NQN, nvmftest.Host) }, 0},
		} {
			aer := listen(p, nvmf.OAESDiscovery)
			if err := c.change(); err != nil {
				t.Fatal(c.why, err)
			}
			wantEvent(t, p, aer, nvmf.EventDiscovery)
			was := h.GENCTR
			if h, entries = discover(t, p); h.GENCTR <= was || len(entries) != c.entries {
				t.Errorf("%s: GENCTR %d after %d, %d entries, want %d", c.why, h.GENCTR, was, len(entries), c.entries)
			}
			for _, x := range entries {
				if x.CNTLID != nvmf.CNTLIDDynamic || x.ASQSZ < 32 || x.SUBTYPE == nvmf.SubsystemNVMe && (x.TRADDR != "127.0.0.1" || x.ADRFAM != nvmf.AddressIPv4) {
					t.Errorf("%s: %+v", c.why, x)
				}
			}
		}
	})
}

// TARGETS 1.7, "consistent read": all pieces are of the generation that the first was of; a page that is gone is 1/90.
func TestRow_DiscoveryConsistentRead(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		add := func(n int) {
			r := nvmf.Referral{Address: nvmf.Address{TRType: "TCP", TrAddr: fmt.Sprintf("192.0.2.%d", n), TrSvcID: "8009"}}
			if err := e.Target.AddReferral(r); err != nil {
				t.Fatal(err)
			}
		}
		add(1)
		p := found(e, nvmf.DiscoveryNQN, nvmftest.Host)
		before, entries := discover(t, p)
		piece := func(offset uint64) (nvmf.CQE, []byte) {
			return logPage(p, nvmf.LogPage{LID: nvmf.LIDDiscovery, Offset: offset, Bytes: 1024})
		}
		_, b := piece(0)
		if h, _ := nvmf.DecodeDiscoveryHeader(b); h != before || h.NUMREC != 2 {
			t.Fatalf("%+v, %+v", h, before)
		}
		// All that was there goes, and other things come.
		if err := e.Target.AllowAnyHost(nvmftest.NQN, false); err != nil {
			t.Fatal(err)
		}
		add(2)
		add(3)
		for i := range entries {
			cqe, b := piece(1024 * uint64(i+1))
			p.WantStatus("a piece of before", cqe, nvmf.StatusSuccess)
			if x, _ := nvmf.DecodeDiscoveryEntry(b); x != entries[i] {
				t.Errorf("entry %d is %+v, want %+v", i, x, entries[i])
			}
		}
		cqe, _ := piece(1024)
		p.WantStatus("a piece of a page that was read to its end, and is another now", cqe, nvmf.StatusDiscoveryRestart)
		_, b = piece(0)
		if h, _ := nvmf.DecodeDiscoveryHeader(b); h.GENCTR != before.GENCTR+3 || h.NUMREC != 3 {
			t.Errorf("from the start again: %+v, before %+v", h, before)
		}
		cqe, _ = piece(1024)
		p.WantStatus("and on", cqe, nvmf.StatusSuccess)
		cqe, _ = piece(1 << 20)
		p.WantStatus("behind the page", cqe, nvmf.StatusInvalidField|nvmf.DNR)
		fresh := found(e, nvmf.DiscoveryNQN, nvmftest.Host)
		cqe, _ = logPage(fresh, nvmf.LogPage{LID: nvmf.LIDDiscovery, Offset: 1024, Bytes: 1024})
		fresh.WantStatus("a host that begins in the middle", cqe, nvmf.StatusSuccess)
	})
}

// TARGETS 1.7, "address": a listener on a wildcard is shown as the address that the host came to, if that is of its family.
func TestRow_DiscoveryWildcard(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	wildcard := func(any, by string) netip.AddrPort {
		t.Helper()
		for range 20 {
			free := e.Listen(nvmftest.NQN)
			if err := e.Target.RemoveListener(t.Context(), nvmftest.NQN, nvmftest.Address(free)); err != nil {
				t.Fatal(err)
			}
			a := nvmf.Address{TRType: "TCP", TrAddr: any, TrSvcID: fmt.Sprint(free.Port())}
			err := e.Target.AddListener(nvmftest.NQN, a, nvmf.ANAOptimized)
			if err == nil {
				return netip.AddrPortFrom(netip.MustParseAddr(by), free.Port())
			}
			t.Log(err)
		}
		t.Fatal("no free port in 20 tries")
		return netip.AddrPort{}
	}
	four, six := wildcard("0.0.0.0", "127.0.0.1"), wildcard("::", "::1")
	shown := func(addr netip.AddrPort) map[string]nvmf.ADRFAM {
		_, entries := discover(t, nvmftest.AdminAs(t, addr, 0, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmf.DiscoveryNQN, HOSTNQN: nvmftest.Host}).Peer)
		out := map[string]nvmf.ADRFAM{}
		for _, x := range entries {
			out[x.TRADDR+" "+x.TRSVCID] = x.ADRFAM
		}
		return out
	}
	name := func(addr string, port uint16) string { return fmt.Sprintf("%s %d", addr, port) }
	fixed := name("127.0.0.1", e.Addr.Port())
	for _, c := range []struct {
		why  string
		by   netip.AddrPort
		want map[string]nvmf.ADRFAM
	}{
		{"IPv4", four, map[string]nvmf.ADRFAM{fixed: nvmf.AddressIPv4, name("127.0.0.1", four.Port()): nvmf.AddressIPv4}},
		{"IPv6", six, map[string]nvmf.ADRFAM{fixed: nvmf.AddressIPv4, name("::1", six.Port()): nvmf.AddressIPv6}},
		{"IPv4 to [::]", netip.AddrPortFrom(four.Addr(), six.Port()), map[string]nvmf.ADRFAM{
			fixed: nvmf.AddressIPv4, name("127.0.0.1", four.Port()): nvmf.AddressIPv4, name("127.0.0.1", six.Port()): nvmf.AddressIPv4,
		}},
	} {
		if got := shown(c.by); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("by %s: %v, want %v", c.why, got, c.want)
		}
	}
}

// SPDK's discovery_filters.
func TestRow_DiscoveryFilters(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		e.Another(nvmftest.NQN)
		if err := e.Target.AddListener(nvmftest.NQN, nvmf.Address{TRType: e.At.TRType, TrAddr: "127.0.0.2", TrSvcID: e.At.TrSvcID}, nvmf.ANAOptimized); err != nil {
			t.Fatal(err)
		}
		p := found(e, nvmf.DiscoveryNQN, nvmftest.Host)
		for names, want := range map[string]int{"": 3, "match_any": 3, "transport": 3, "address": 2, "svcid": 2, "address svcid": 1, "transport address svcid": 1} {
			f, err := nvmf.ParseDiscoveryFilters(strings.Fields(names))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Target.SetDiscoveryFilter(f); err != nil {
				t.Fatal(err)
			}
			if _, entries := discover(t, p); len(entries) != want {
				t.Errorf("%q: %d entries, want %d", names, len(entries), want)
			}
		}
		for _, bad := range [][]string{{"match_any", "address"}, {"address", "match_any"}, {"port"}} {
			if _, err := nvmf.ParseDiscoveryFilters(bad); err == nil {
				t.Errorf("%v is taken", bad)
			}
		}
	})
}

// TARGETS 1.4, "CNTLID": the same host twice: two controllers, or one per listener by policy.
func TestRow_DuplicateHosts(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
		second := e.Another(nvmftest.NQN)
		try := func(at *nvmftest.Portal, d nvmf.ConnectData) nvmf.Status {
			t.Helper()
			d.CNTLID = nvmf.CNTLIDDynamic
			_, cqe := at.Try(0, d)
			return cqe.Status
		}
		me := nvmf.ConnectData{SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host, HOSTID: [16]byte{1}}
		twin, other, lookup := me, me, me
		twin.HOSTID, other.HOSTNQN, lookup.SUBNQN = [16]byte{2}, nvmftest.Host+"2", nvmf.DiscoveryNQN
		first := e.AdminAs(me)
		if s := try(e, me); !s.OK() {
			t.Errorf("allowed by default: %v", s)
		}
		if err := e.Target.RestrictHosts(true); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			why  string
			at   *nvmftest.Portal
			d    nvmf.ConnectData
			want nvmf.Status
		}{
			{"again", e, me, nvmf.StatusConnectBusy},
			{"by another listener", second, me, 0},
			{"by that one again", second, me, nvmf.StatusConnectBusy},
			{"another HOSTID", e, twin, 0},
			{"another host", e, other, 0},
			{"discovery", e, lookup, 0},
			{"discovery again", e, lookup, 0},
		} {
			if s := try(c.at, c.d); s != c.want {
				t.Errorf("%s: %v, want %v", c.why, s, c.want)
			}
		}
		d := me
		d.CNTLID = first.CNTLID
		q, cqe := e.Try(1, d)
		q.WantStatus("an I/O queue of the first", cqe, nvmf.StatusSuccess)
	})
}
