package nvmf_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// TARGETS 1.2, "accept, reject": what is wrong with what a host asks for is said in the rejection.
func TestRDMARejections(t *testing.T) {
	e := overRDMA(t, 1)
	ok := nvmf.RDMARequest{QID: 1, HRQSIZE: 32, HSQSIZE: 31}
	format := ok.AppendTo(nil)
	binary.LittleEndian.PutUint16(format, 1)
	for _, c := range []struct {
		what string
		o    nvmftest.RDMAOptions
		want nvmf.RDMAReason
	}{
		{"no private data to speak of", nvmftest.RDMAOptions{Private: []byte{}, IRD: 16}, nvmf.RDMAHSQSIZE}, // a card pads them: all zeros are a request for nothing
		{"a format that is not known", nvmftest.RDMAOptions{Private: format, IRD: 16}, nvmf.RDMAFormat},
		{"a queue too many", nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 128, HRQSIZE: 32, HSQSIZE: 31}, IRD: 16}, nvmf.RDMAQID},
		{"a queue of one entry", nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 1, HRQSIZE: 32}, IRD: 16}, nvmf.RDMAHSQSIZE},
		{"no receives", nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 1, HSQSIZE: 31}, IRD: 16}, nvmf.RDMAHRQSIZE},
		{"no READs", nvmftest.RDMAOptions{Request: ok}, nvmf.RDMAIRD},
		{"no controller", nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 1, HRQSIZE: 32, HSQSIZE: 31, CNTLID: 0xFFFF}, IRD: 16}, nvmf.RDMACNTLID},
	} {
		if p, why := e.TryRDMA(t, e.RDMA.Addr, c.o); p != nil || why != c.want {
			t.Errorf("%s: %v, want %v", c.what, why, c.want)
		}
	}
	if err := e.Target.Drain(t.Context(), func(int, int) {}); err != nil {
		t.Fatal(err)
	}
	if p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: ok, IRD: 16}); p != nil || why != nvmf.RDMANoResources {
		t.Errorf("while drained: %v", why)
	}
	if err := e.Target.Undrain(); err != nil {
		t.Fatal(err)
	}
	e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
}

// Cards that could not be given back stay the target's: Stop may be tried again. No listener comes about on them any more, nor when there are
// none: who controls an engine may ask for one while it ends.
func TestRDMAStopIsTriedAgain(t *testing.T) {
	e := overRDMA(t, 1)
	other, err := e.RDMA.Target.NewCM() // as something that the cards are still needed for
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Target.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "1 connection managers") {
		t.Errorf("stopped: %v", err)
	}
	listen := func() {
		t.Helper()
		if err := e.Target.AddListener(nvmftest.NQN, nvmftest.RDMAAddress(netip.MustParseAddrPort("127.0.0.1:4499")), nvmf.ANAOptimized); !errors.Is(err, rdma.ErrClosed) {
			t.Errorf("a listener was added: %v", err)
		}
	}
	listen()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if err := e.Target.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	cards, err := e.RDMA.Target.Cards()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cards[0].CreateCQ(1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the cards were not given back: %v", err)
	}
	listen()
}

func TestRDMAShortPrivateData(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{ExactPrivate: true}})
	for _, b := range [][]byte{{}, make([]byte, 31)} {
		if p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Private: b, IRD: 16}); p != nil || why != nvmf.RDMALength {
			t.Errorf("%d bytes of private data: %v", len(b), why)
		}
	}
}

// A card without room refuses, and says so.
func TestRDMACardWithoutRoom(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{QPDepthMax: 36}})
	if p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: nvmf.RDMARequest{HRQSIZE: 32, HSQSIZE: 31}, IRD: 16}); p != nil || why != nvmf.RDMANoResources {
		t.Errorf("a card with room for no command: %v", why)
	}
}

// A connection over RDMA is for one queue, and no more entries than were asked for; an I/O queue's Connect is answered where its queue pair is, and the
// host may try again there. All else is TestConnectIsJudged.
func TestRDMAConnects(t *testing.T) {
	for _, reactors := range []int{1, 3} {
		e := overRDMA(t, reactors)
		a := e.AdminRDMA(t)
		data := func(id nvmf.CNTLID) nvmf.ConnectData {
			return nvmf.ConnectData{CNTLID: id, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
		}
		p := e.DialRDMA(t, e.RDMA.Addr, 2, 32, 0)
		for _, c := range []struct {
			what    string
			qid     nvmf.QID
			entries uint32
			d       nvmf.ConnectData
			want    nvmf.Status
			dw0     nvmf.IPO
		}{
			{"another queue than the connection was made for", 3, 32, data(a.CNTLID), nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOQID},
			{"the Admin queue, on an I/O queue's connection", 0, 32, data(nvmf.CNTLIDDynamic), nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOQID},
			{"more entries than the connection has", 2, 33, data(a.CNTLID), nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOSQSIZE},
			{"as it should be", 2, 16, data(a.CNTLID), nvmf.StatusSuccess, nvmf.IPO(a.CNTLID)},
		} {
			cqe := p.ConnectAs(c.qid, c.entries, 0, 0, c.d)
			p.WantStatus(c.what, cqe, c.want)
			if nvmf.IPO(cqe.DW0) != c.dw0 {
				t.Errorf("%d reactors, %s: DW0 %#x, want %#x", reactors, c.what, cqe.DW0, c.dw0)
			}
		}
		// The Admin queue's connection is no I/O queue.
		q := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
		q.WantStatus("an I/O queue on an Admin queue's connection", q.Connect(1, 32, a.CNTLID), nvmf.StatusConnectParameters|nvmf.DNR)
		q.WantStatus("then the Admin queue", q.Connect(0, 32, nvmf.CNTLIDDynamic), nvmf.StatusSuccess)
		// The same queue again, while the first is there, and when it is going.
		again := e.DialRDMA(t, e.RDMA.Addr, 2, 32, a.CNTLID)
		s := again.Fabrics(nvmf.FabricsConnect)
		s.SetConnect(2, 32, 0, 0)
		d := data(a.CNTLID)
		again.Begin(s, d.AppendTo(nil))
		p.Close()
		again.WantStatus("a queue that waits for the one before it", again.Response(s).CQE, nvmf.StatusSuccess)
		again.WantStatus("flush", again.Do(again.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	}
}

// One association has one transport.
func TestBothTransportsServeOneSubsystem(t *testing.T) {
	e := overRDMA(t, 2)
	a, b := e.AdminRDMA(t), nvmftest.Admin(t, e.Addr)
	p, q := e.QueueRDMA(t, a, 1, 32), nvmftest.Queue(t, e.Addr, b, 1, 32)
	want := pattern(4096, 5)
	p.WantStatus("write over RDMA", p.Do(p.RW(nvmf.IOWrite, 3, 1), want), nvmf.StatusSuccess)
	cqe, got := q.Read(q.RW(nvmf.IORead, 3, 1), 4096)
	q.WantStatus("read over TCP", cqe, nvmf.StatusSuccess)
	if string(got) != string(want) {
		t.Error("what was written over RDMA is not read over TCP")
	}
	mixed := e.DialRDMA(t, e.RDMA.Addr, 2, 32, b.CNTLID)
	mixed.WantStatus("a queue over RDMA of a controller over TCP", mixed.Connect(2, 32, b.CNTLID), nvmf.StatusConnectParameters)
	other := nvmftest.Open(t, e.Addr, 0)
	other.WantStatus("a queue over TCP of a controller over RDMA", other.Connect(2, 32, a.CNTLID), nvmf.StatusConnectParameters)
}

// Queues over RDMA spread over the reactors when they come, stay there, and Admin queues go to the owner of their subsystem.
func TestRDMAQueuesSpreadAndStay(t *testing.T) {
	e := overRDMA(t, 3)
	a := e.AdminRDMA(t)
	var peers []*nvmftest.RDMAPeer
	for qid := nvmf.QID(1); qid <= 6; qid++ {
		peers = append(peers, e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)) // all connections first, as Linux does
	}
	for i, p := range peers {
		p.WantStatus("Connect", p.Connect(nvmf.QID(i+1), 32, a.CNTLID), nvmf.StatusSuccess)
	}
	queues, err := e.Target.Queues(nvmftest.NQN)
	if err != nil {
		t.Fatal(err)
	}
	on := map[int]int{}
	for _, q := range queues {
		if q.Listener.TRType != "RDMA" || q.Local == "" || q.Remote == "" {
			t.Errorf("%+v", q)
		}
		if q.QID > 0 {
			on[q.Reactor]++
		} else if q.Reactor != queues[0].Reactor {
			t.Errorf("an Admin queue on reactor %d", q.Reactor)
		}
	}
	for r := range 3 {
		if on[r] != 2 {
			t.Errorf("reactor %d has %d of 6 queues: %v", r, on[r], on)
		}
	}
	for to := range 3 {
		err := e.Target.MoveQueue(t.Context(), nvmftest.NQN, a.CNTLID, 1, to, nvmf.MoveTime)
		if here := queues[1].Reactor == to; here != (err == nil) || !here && !errors.Is(err, nvmf.ErrInvalid) {
			t.Errorf("moving queue 1 from reactor %d to %d: %v", queues[1].Reactor, to, err)
		}
	}
	for _, p := range peers {
		p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
		p.Close()
	}
	a.Close()
	e.WantNothingLeft("after the host has gone")
	if n := e.Target.Placed(); slices.Max(n) != 0 || slices.Min(n) != 0 {
		t.Errorf("%v queues are still counted on reactors", n)
	}
}

// While a target holds, connections over RDMA are taken, and their Connects wait.
func TestRDMAHold(t *testing.T) {
	e := overRDMA(t, 2)
	e.Target.Hold()
	p := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	s := p.Fabrics(nvmf.FabricsConnect)
	s.SetConnect(0, 32, 0, 0)
	d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
	p.Begin(s, d.AppendTo(nil))
	if _, err := e.Target.Stats(); err != nil { // every reactor has had its turn
		t.Fatal(err)
	}
	p.WantIdle("while the target holds")
	if err := e.Target.Serve(); err != nil {
		t.Fatal(err)
	}
	p.WantStatus("Connect", p.Response(s).CQE, nvmf.StatusSuccess)
}

// What is said of the transport: to a host that came by it, and in discovery.
func TestRDMAIsSaid(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	s := a.Cmd(nvmf.AdminIdentify)
	s.SetIdentify(nvmf.CNSController, 0, 0)
	cqe, page := a.Read(s, nvmf.IdentifyBytes)
	a.WantStatus("Identify", cqe, nvmf.StatusSuccess)
	c, ok := nvmf.DecodeIdentifyController(page)
	if want := nvmf.SGLSAnyAlign | nvmf.SGLSKeyed | nvmf.SGLSOffset; !ok || c.SGLS != want || c.IOCCSZ != 260 || c.IORCSZ != 1 || c.ICDOFF != 0 || c.MSDBD != 16 || c.MDTS != 8 {
		t.Errorf("SGLS %#x, IOCCSZ %d, IORCSZ %d, ICDOFF %d, MSDBD %d, MDTS %d", c.SGLS, c.IOCCSZ, c.IORCSZ, c.ICDOFF, c.MSDBD, c.MDTS)
	}
	if v := c.SGLS & 3; v == 0 || c.SGLS&nvmf.SGLSTransport != 0 {
		t.Errorf("SGLS %#x", c.SGLS)
	}

	e.ListenRDMA("discovery")
	d := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	d.WantStatus("Connect", d.ConnectAs(0, 32, 0, 0, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmf.DiscoveryNQN, HOSTNQN: nvmftest.Host}), nvmf.StatusSuccess)
	d.Enable()
	g := d.Cmd(nvmf.AdminGetLogPage)
	g.SetLogPage(nvmf.LogPage{LID: nvmf.LIDDiscovery, Bytes: 4096})
	cqe, page = d.Read(g, 4096)
	d.WantStatus("Get Log Page", cqe, nvmf.StatusSuccess)
	found := map[nvmf.TRTYPE]nvmf.DiscoveryEntry{}
	for at := nvmf.DiscoveryHeaderBytes; at < len(page); at += nvmf.DiscoveryEntryBytes {
		if x, ok := nvmf.DecodeDiscoveryEntry(page[at:]); ok && x.SUBNQN == nvmftest.NQN {
			found[x.TRTYPE] = x
			if x.TRTYPE == nvmf.TransportRDMA { // TRTYPE, ADRFAM, SUBTYPE, TREQ; then TSAS: connected, RoCEv2, RDMA_CM
				if h := page[at:]; h[0] != 1 || h[1] != 1 || h[2] != 2 || h[768] != 1 || h[769] != 4 || h[770] != 1 {
					t.Errorf("entry % X, TSAS % X", h[:12], h[768:776])
				}
			}
		}
	}
	if x := found[nvmf.TransportRDMA]; len(found) != 2 || x.TRADDR != "127.0.0.1" || x.TRSVCID != "4421" || x.ADRFAM != nvmf.AddressIPv4 || x.ASQSZ != 128 {
		t.Errorf("found %+v", found)
	}
	if x := found[nvmf.TransportTCP]; x.TSAS != [3]uint8{} {
		t.Errorf("TCP's TSAS: %v", x.TSAS)
	}
}
