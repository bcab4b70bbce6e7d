//go:build cgo

package ibverbs

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

func TestListen(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ at, bound, result string }{
		{"192.0.2.1:4420", "192.0.2.1@4420", "192.0.2.1:4420"},
		{"0.0.0.0:4420", "0.0.0.0@4420", "0.0.0.0:4420"},
		{"192.0.2.1:0", "192.0.2.1@0", "192.0.2.1:40000"},
		{"[2001:db8::1]:4420", "2001:db8::1%0@4420", "[2001:db8::1]:4420"},
		{"[::]:4420", "::%0@4420", "[::]:4420"},
		{"[::ffff:192.0.2.1]:4420", "192.0.2.1@4420", "[::ffff:192.0.2.1]:4420"},
		{"[fe80::1%" + lo.Name + "]:4420", "fe80::1%1@4420", "[fe80::1%lo]:4420"},
		{"[fe80::1%7]:4420", "fe80::1%7@4420", "[fe80::1%7]:4420"},
	} {
		s := newStage(t)
		id, at, err := s.cm.Listen(netip.MustParseAddrPort(c.at), 128)
		s.ok(err)
		if at.String() != c.result {
			t.Errorf("%s became %s, want %s", c.at, at, c.result)
		}
		s.want(c.at, "rdma_create_id id1 ps=0x106", "rdma_set_option id1 0/2=1 (4)", "rdma_bind_addr id1 "+c.bound, "rdma_listen id1 backlog=128")
		s.ok(s.cm.Destroy(id))
		s.want("destroyed", "rdma_destroy_id id1 unacknowledged=0")
		s.over()
	}
}

func TestListenSaysWhyItCannot(t *testing.T) {
	for _, c := range []struct {
		order, at string
		words     []string
	}{
		{"fail of=rdma_create_id errno=24", "192.0.2.1:4420", []string{"192.0.2.1:4420", "rdma_create_id", "too many open files"}},
		{"fail of=rdma_set_option errno=38", "192.0.2.1:4420", []string{"192.0.2.1:4420", "function not implemented"}},
		{"fail of=rdma_bind_addr errno=19", "192.0.2.1:4420", []string{"192.0.2.1:4420", "no RDMA card has this address", "rdma link"}},
		{"fail of=rdma_bind_addr errno=99", "192.0.2.1:4420", []string{"no RDMA card has this address"}},
		{"fail of=rdma_bind_addr errno=98", "192.0.2.1:4420", []string{"listens there already", "rdma resource show cm_id"}},
		{"fail of=rdma_listen errno=22", "192.0.2.1:4420", []string{"192.0.2.1:4420", "invalid argument"}},
		{"quiet", "[fe80::1%nowhere0]:4420", []string{"zone", "nowhere0"}},
	} {
		s := newStage(t)
		s.lib.Do("%s", c.order)
		_, _, err := s.cm.Listen(netip.MustParseAddrPort(c.at), 128)
		s.refused(err, c.words...)
		s.over() // nothing is left of it
	}
	s := newStage(t)
	_, _, err := s.cm.Listen(netip.AddrPort{}, 128)
	s.refused(err, "not an IP address")
	s.over()
}

func TestAConnectionComes(t *testing.T) {
	s := newStage(t)
	listener, cq := s.listen(), s.cq()
	s.log()
	e := s.event("id=1 kind=4 card=1 local=192.0.2.1@4420 peer=192.0.2.9@50000 private=hello bytes=56 in=16 out=4 retries=7 rnr=6")
	s.want("it is acknowledged", "rdma_ack_cm_event 4")
	private := append([]byte("hello"), make([]byte, 51)...)
	if !bytes.Equal(e.Private, private) || !bytes.Equal(e.Params.Private, private) {
		t.Errorf("private data are %q", e.Private)
	}
	e.Private, e.Params.Private = nil, nil
	if want := (rdma.Event{
		Kind: rdma.EventConnect, ID: listener + 1, Listener: listener, Card: s.card,
		Params: rdma.ConnParams{ReadsIn: 16, ReadsOut: 4, Retries: 7, RNR: 6},
		Local:  netip.MustParseAddrPort("192.0.2.1:4420"), Remote: netip.MustParseAddrPort("192.0.2.9:50000"),
	}); e.Kind != want.Kind || e.ID != want.ID || e.Listener != want.Listener || e.Card != want.Card || e.Local != want.Local || e.Remote != want.Remote ||
		e.Status != 0 || e.Params.ReadsIn != 16 || e.Params.ReadsOut != 4 || e.Params.Retries != 7 || e.Params.RNR != 6 {
		t.Errorf("the event is\n%+v, want\n%+v", e, want)
	}
	srq, err := s.card.CreateSRQ(64, 2)
	s.ok(err)
	s.log()
	qp, caps, err := s.card.CreateQP(e.ID, rdma.QPConfig{Send: cq, Recv: cq, Shared: srq, SendDepth: 33, RecvDepth: 40, SGEs: 2, InlineBytes: 20})
	s.ok(err)
	if want := (rdma.QPCaps{Number: 101, SendDepth: 64, InlineBytes: 32}); caps != want {
		t.Errorf("what came of it is %+v, want %+v", caps, want)
	}
	s.want("receives are the SRQ's", "rdma_create_qp qp1 id2 type=2 cq1 cq1 srq1 send=33 recv=0 sges=2,0 inline=20 sig_all=0")
	s.ok(s.cm.Accept(e.ID, rdma.ConnParams{Private: []byte("welcome"), ReadsIn: 0, ReadsOut: 4, Retries: 200, RNR: 9}))
	s.want("three bits are three bits", `rdma_accept id2 in=0 out=4 flow=1 retries=7 rnr=7 "welcome"`)

	s.lib.Do("event id=2 kind=9 card=1")
	if e, err := s.cm.Next(); err != nil || e.Kind != rdma.EventEstablished {
		t.Errorf("the event is %+v, %v", e, err)
	}
	s.want("a peer that meets no receive tries again soon", "ibv_modify_qp qp1 rnr=12 mask=32768", "rdma_ack_cm_event 9")
	s.lib.Do("fail of=ibv_modify_qp errno=22")
	for _, c := range []struct {
		kind string
		want rdma.EventKind
	}{{"9", rdma.EventEstablished}, {"14", rdma.EventAddress}, {"11", rdma.EventRemoval}, {"10", rdma.EventDisconnected}, {"15", rdma.EventTimewait}} {
		if e := s.event("id=2 kind=%s card=1", c.kind); e.Kind != c.want || e.ID != listener+1 || e.Private != nil || e.Listener != 0 {
			t.Errorf("event %s is %+v", c.kind, e)
		}
	}
	s.log()
	s.ok(s.cm.Disconnect(e.ID))
	s.want("disconnected", "rdma_disconnect id2")
	s.ok(s.card.Fail(qp))
	s.want("failed", "ibv_modify_qp qp1 state=6 mask=1")
	s.refused(s.cm.Destroy(e.ID), "still has its queue pair")
	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(e.ID))
	s.want("destroyed in order", "rdma_destroy_qp qp1", "rdma_destroy_id id2 unacknowledged=0")
	s.ok(s.card.DestroySRQ(srq))
	s.ok(s.card.DestroyCQ(cq))
	s.ok(s.cm.Destroy(listener))
	s.over()
}

func TestReject(t *testing.T) {
	s := newStage(t)
	listener := s.listen()
	e := s.event("id=1 kind=4 card=1")
	s.log()
	s.ok(s.cm.Reject(e.ID, []byte("\x01\x02")))
	s.want("with what says why", "rdma_reject id2 \"\x01\x02\"")
	s.ok(s.cm.Reject(e.ID, nil))
	s.want("with nothing", `rdma_reject id2 ""`)
	s.lib.Do("fail of=rdma_reject errno=22")
	s.refused(s.cm.Reject(e.ID, nil), "rdma_reject", "invalid argument")
	s.ok(s.cm.Destroy(e.ID))
	s.ok(s.cm.Destroy(listener))
	s.over()
}

func TestAConnectionIsMade(t *testing.T) {
	s := newStage(t)
	cq := s.cq()
	s.log()
	id, err := s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{})
	s.ok(err)
	s.want("from wherever the routes say", "rdma_create_id id1 ps=0x106", "rdma_resolve_addr id1 from any to 192.0.2.1@4420 in 3000 ms")
	_, _, err = s.card.CreateQP(id, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 1, RecvDepth: 1, SGEs: 1})
	s.refused(err, "is another card's")
	s.lib.Do("event id=1 kind=0 card=1 local=192.0.2.9@50000 peer=192.0.2.1@4420")
	if e := s.event("id=1 kind=2 card=1"); e.Kind != rdma.EventRoute || e.ID != id || e.Card != s.card || e.Local.String() != "192.0.2.9:50000" {
		t.Errorf("the event is %+v", e)
	}
	s.want("the second step is taken while the event keeps the ID", "rdma_resolve_route id1 in 3000 ms unacknowledged=1", "rdma_ack_cm_event 0", "rdma_ack_cm_event 2")
	s.refused(s.cm.Connect(id, rdma.ConnParams{}), "no queue pair")
	qp, caps, err := s.card.CreateQP(id, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 8, RecvDepth: 16, SGEs: 1})
	s.ok(err)
	if caps.RecvDepth != 16 {
		t.Errorf("what came of it is %+v", caps)
	}
	_, _, err = s.card.CreateQP(id, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 8, RecvDepth: 16, SGEs: 1})
	s.refused(err, "has one")
	s.log()
	s.ok(s.cm.Connect(id, rdma.ConnParams{Private: bytes.Repeat([]byte("x"), 56), ReadsIn: 16, ReadsOut: 0, Retries: 7, RNR: 7}))
	s.want("connecting", `rdma_connect id1 in=16 out=0 flow=1 retries=7 rnr=7 "`+strings.Repeat("x", 56)+`"`)
	if e := s.event("id=1 kind=9 card=1 private=welcome bytes=196 in=3 out=5"); e.Kind != rdma.EventEstablished || len(e.Private) != 196 ||
		!strings.HasPrefix(string(e.Private), "welcome\x00") || e.Params.ReadsIn != 3 || e.Params.ReadsOut != 5 {
		t.Errorf("the event is %+v", e)
	}
	s.lib.Do("fail of=rdma_connect errno=22")
	s.refused(s.cm.Connect(id, rdma.ConnParams{ReadsIn: 17}), "rdma_connect", "fake1 allows (16 in, 8 out)")
	s.lib.Do("fail of=rdma_disconnect errno=107")
	if err := s.cm.Disconnect(id); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("disconnect: %v", err)
	}
	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(id))
	s.ok(s.card.DestroyCQ(cq))
	s.over()
}

func TestResolveFrom(t *testing.T) {
	for _, c := range []struct{ from, to, want, refused string }{
		{"192.0.2.9", "192.0.2.1:4420", "from 192.0.2.9@0 to 192.0.2.1@4420", ""},
		{"0.0.0.0", "192.0.2.1:4420", "from any to 192.0.2.1@4420", ""},
		{"2001:db8::9", "[2001:db8::1]:4420", "from 2001:db8::9%0@0 to 2001:db8::1%0@4420", ""},
		{"::ffff:192.0.2.9", "192.0.2.1:4420", "from 192.0.2.9@0 to 192.0.2.1@4420", ""},
		{"2001:db8::9", "192.0.2.1:4420", "", "other family"},
		{"fe80::1%nowhere0", "[fe80::2%7]:4420", "", "nowhere0"},
	} {
		s := newStage(t)
		id, err := s.cm.Resolve(netip.MustParseAddr(c.from), netip.MustParseAddrPort(c.to), rdma.Link{})
		if c.refused != "" {
			s.refused(err, c.refused)
		} else {
			s.ok(err)
			s.want(c.from, "rdma_create_id id1 ps=0x106", "rdma_resolve_addr id1 "+c.want+" in 3000 ms")
			s.ok(s.cm.Destroy(id))
		}
		s.over()
	}
	s := newStage(t)
	_, err := s.cm.Resolve(netip.Addr{}, netip.AddrPort{}, rdma.Link{})
	s.refused(err, "not an IP address")
	s.lib.Do("fail of=rdma_resolve_addr errno=101")
	_, err = s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{})
	s.refused(err, "192.0.2.1:4420", "network is unreachable")
	s.over()
}

func TestHowPacketsAreSent(t *testing.T) {
	s := newStage(t)
	id, err := s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{AckTimeout: 14, TOS: 0xb8})
	s.ok(err)
	s.want("before the way is looked for", "rdma_create_id id1 ps=0x106", "rdma_set_option id1 0/3=14 (1)", "rdma_set_option id1 0/0=184 (1)",
		"rdma_resolve_addr id1 from any to 192.0.2.1@4420 in 3000 ms")
	s.ok(s.cm.Destroy(id))
	for range 2 { // a kernel that knows of no such option
		s.lib.Do("fail of=rdma_set_option errno=38")
		_, err = s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{TOS: 4})
		s.refused(err, "192.0.2.1:4420", "rdma_set_option", "not implemented")
	}
	listener, cq := s.listen(), s.cq()
	id, qp := s.queue(listener, cq)
	s.log()
	s.lib.Do("fail of=rdma_set_option errno=38")
	s.refused(s.cm.Accept(id, rdma.ConnParams{AckTimeout: 31}), "rdma_accept", "not implemented")
	s.log()
	s.ok(s.cm.Accept(id, rdma.ConnParams{AckTimeout: 31}))
	if got := s.log(); !strings.HasPrefix(got, "rdma_set_option id") || !strings.Contains(got, " 0/3=31 (1)\nrdma_accept") {
		t.Errorf("accepting: the libraries were asked for %q", got)
	}
	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(id))
	s.ok(s.cm.Destroy(listener))
	s.ok(s.card.DestroyCQ(cq))
	s.over()
}

func TestConnectionsThatFail(t *testing.T) {
	for _, c := range []struct {
		name, event string
		kind        rdma.EventKind
		status      int
	}{
		{"no address", "kind=1 status=-113", rdma.EventUnreachable, int(syscall.EHOSTUNREACH)},
		{"no route", "kind=3 status=-22", rdma.EventUnreachable, int(syscall.EINVAL)},
		{"no answer", "kind=7 status=-110", rdma.EventUnreachable, int(syscall.ETIMEDOUT)},
		{"the handshake breaks", "kind=6 status=-104", rdma.EventUnreachable, int(syscall.ECONNRESET)},
		{"no listener", "kind=8 status=8", rdma.EventUnreachable, int(syscall.ECONNREFUSED)},
		{"refused by who listens", "kind=8 status=28 private=no bytes=148", rdma.EventRejected, 28},
	} {
		s := newStage(t)
		id, err := s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{})
		s.ok(err)
		e := s.event("id=1 %s", c.event)
		if e.Kind != c.kind || e.Status != c.status || e.ID != id || e.Card != nil {
			t.Errorf("%s: %+v", c.name, e)
		}
		if c.kind == rdma.EventRejected && (len(e.Private) != 148 || !strings.HasPrefix(string(e.Private), "no\x00")) {
			t.Errorf("%s: private data are %q", c.name, e.Private)
		}
		s.ok(s.cm.Destroy(id))
		s.over()
	}

	s := newStage(t)
	id, err := s.cm.Resolve(netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:4420"), rdma.Link{})
	s.ok(err)
	s.lib.Do("fail of=rdma_resolve_route errno=101")
	if e := s.event("id=1 kind=0 card=1"); e.Kind != rdma.EventUnreachable || e.Status != int(syscall.ENETUNREACH) {
		t.Errorf("the search for the route cannot begin: %+v", e)
	}
	s.ok(s.cm.Destroy(id))
	s.over()
}

func TestPrivateDataHaveALimit(t *testing.T) {
	s := newStage(t)
	listener, cq := s.listen(), s.cq()
	id, qp := s.queue(listener, cq)
	s.log()
	for _, c := range []struct {
		room string
		try  func(b []byte) error
		most int
	}{
		{"room for 56", func(b []byte) error { return s.cm.Connect(id, rdma.ConnParams{Private: b}) }, 56},
		{"room for 196", func(b []byte) error { return s.cm.Accept(id, rdma.ConnParams{Private: b}) }, 196},
		{"room for 148", func(b []byte) error { return s.cm.Reject(id, b) }, 148},
	} {
		err := c.try(make([]byte, c.most+1))
		s.refused(err, c.room)
		if !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: %v", c.room, err)
		}
		s.want("nothing is cut off")
		s.ok(c.try(make([]byte, c.most)))
		s.log()
	}
	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(id))
	s.ok(s.cm.Destroy(listener))
	s.ok(s.card.DestroyCQ(cq))
	s.over()
}

// Nobody hears of what is destroyed, and nothing that is made later is taken for it.
func TestNoEventOfWhatIsDestroyed(t *testing.T) {
	s := newStage(t)
	listener, other := s.listen(), s.listen()
	e := s.event("id=1 kind=4 card=1")
	// The library still has events of both, as if they had been read before.
	fakeConn, fakeListener := s.p.find(e.ID), s.p.find(listener)
	s.p.forget(e.ID)
	s.p.forget(listener)
	s.log()
	s.lib.Do("event id=3 kind=10 card=1")
	s.lib.Do("event id=1 kind=4 card=1")
	if e := s.event("id=2 kind=11"); e.Kind != rdma.EventRemoval || e.ID != other {
		t.Errorf("the event is %+v", e)
	}
	s.want("who comes to a listener that is gone is refused", "rdma_ack_cm_event 10", "rdma_ack_cm_event 4", `rdma_reject id4 ""`,
		"rdma_destroy_id id4 unacknowledged=0", "rdma_ack_cm_event 11")
	s.p.ids[e.ID], s.p.ids[listener] = fakeConn, fakeListener
	for _, id := range []rdma.ID{e.ID, listener, other} {
		s.ok(s.cm.Destroy(id))
		s.refused(s.cm.Destroy(id), "there is no connection or listener")
	}
	if again := s.listen(); again <= e.ID {
		t.Errorf("the number %d is given again", again)
	} else {
		s.ok(s.cm.Destroy(again))
	}
	s.over()
}

func TestNextEnds(t *testing.T) {
	s := newStage(t)
	ended := make(chan error)
	go func() {
		_, err := s.cm.Next()
		ended <- err
	}()
	id := s.listen()
	s.lib.Do("fail of=rdma_destroy_id errno=22")
	s.refused(s.cm.Destroy(id), "rdma_destroy_id")
	s.ok(s.cm.Destroy(id))
	s.ok(s.cm.Close())
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next ended with %v", err)
	}
	s.ok(s.cm.Close())
	if _, err := s.cm.Next(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next of a closed one: %v", err)
	}
	_, _, err := s.cm.Listen(netip.MustParseAddrPort("192.0.2.1:4420"), 1)
	s.refused(err, "closed")
	s.ok(s.p.Close())
	s.ok(s.p.Close())
}

func TestCloseSaysWhatIsLeft(t *testing.T) {
	s := newStage(t)
	s.listen()
	s.refused(s.cm.Close(), "1 connections and listeners")
	s.refused(s.p.Close(), "1 connection managers")
}

func TestNextTellsWhyItCannot(t *testing.T) {
	s := newStage(t)
	s.lib.Do("fail of=rdma_get_cm_event errno=5")
	_, err := s.cm.Next()
	s.refused(err, "rdma_get_cm_event", "input/output error")
	id := s.listen()
	s.lib.Do("fail of=rdma_get_cm_event errno=4")
	if e := s.event("id=1 kind=14"); e.Kind != rdma.EventAddress {
		t.Errorf("a signal came between: %+v", e)
	}
	s.ok(s.cm.Destroy(id))
	s.lib.Do("fail of=rdma_create_event_channel errno=24")
	_, err = s.p.NewCM()
	s.refused(err, "rdma_create_event_channel", "too many open files")
	s.over()
}
