package iscsi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// doors is a target whose nexuses are on several reactors. The test plays the transport.
type doors struct {
	*testing.T
	group  *reactor.Group
	bdevs  *bdev.Registry
	target *Target
	node   *Node
	device *bdev.Device
}

func newDoors(t *testing.T) *doors {
	t.Helper()
	g := bdevtest.Start(t, 2)
	d := &doors{T: t, group: g, bdevs: bdev.NewRegistry(g)}
	var err error
	if d.target, err = NewTarget(d.bdevs, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if d.device, err = bdev.NewMem(d.bdevs, "Mem0", uuid.Nil, 512, 4096); err != nil {
		t.Fatal(err)
	}
	for tag := 1; tag <= 2; tag++ {
		if err := d.target.CreatePortalGroup(PortalGroupOptions{Tag: tag, Portals: []Portal{{"127.0.0.1", fmt.Sprint(3260 + tag)}}, Wait: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.target.CreateInitiatorGroup(InitiatorGroup{Tag: 1, Initiators: []string{"ANY"}, Netmasks: []string{"ANY"}}); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	err = d.target.CreateNode(ctx, NodeOptions{Name: "disk1", Maps: []Map{{1, 1}, {2, 1}}, LUNs: []LUNOptions{{BdevName: "Mem0"}}})
	if err == nil {
		d.node, err = d.target.findNode("disk1")
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// player is a nexus.
type player struct {
	d *doors
	s *session
}

// enter makes a nexus, of initiator name by portal group tag, on a reactor.
func (d *doors) enter(name string, tag, on int) *player {
	d.Helper()
	pg := d.target.groups[on]
	p := &player{d, &session{pg: pg, r: pg.r, node: d.node, state: sessionFull}}
	p.s.params = Params{InitiatorName: "iqn.2026-01.test:" + name, TargetName: d.node.name, Tag: tag, ISID: ISID{0x80, 0, 0, 0, 0, name[0]}}
	d.call(pg.r, func() {
		pg.add(p.s)
		p.s.nexus.begin(pg.view.nodeOf(d.node), &p.s.params, pg.r)
	})
	d.Cleanup(func() { d.call(pg.r, func() { pg.closed(p.s) }) })
	p.quiet()
	return p
}

func (d *doors) call(r *reactor.Reactor, f func()) {
	if err := r.Call(f); err != nil {
		d.Fatal(err)
	}
}

// quiet takes what the nexus has to be told.
func (p *player) quiet() {
	p.d.call(p.s.r, func() {
		for _, u := range p.s.nexus.units {
			for u != nil && u.attentions.some(u.unit) {
				u.attentions.take(u.unit)
			}
		}
	})
}

// played is a command as the transport sees it.
type played struct {
	command
	p     *player
	ended chan struct{}
}

func (x *played) lend(n uint32) bool {
	x.data = bytes.Repeat([]byte{0xEE}, int(n))
	return true
}

func (x *played) end() { close(x.ended) }

// do serves a command that has a list to bring, or room for an answer.
func (p *player) do(cdb, list []byte, room int) *played {
	p.d.Helper()
	x := &played{p: p, ended: make(chan struct{})}
	x.port, x.nexus = x, &p.s.nexus
	copy(x.cdb[:], cdb)
	x.reads, x.writes, x.edtl = room > 0, len(list) > 0, uint32(max(room, len(list)))
	p.d.call(p.s.r, func() {
		x.unit, x.req.Done = x.nexus.find(0), &x.command
		x.command.start()
		if !x.admit() {
			close(x.ended)
			return
		}
		if x.out > 0 {
			x.data = slices.Clone(list[:x.out])
		}
		x.execute()
	})
	select {
	case <-x.ended:
	case <-time.After(time.Minute):
		p.d.Fatalf("%x is not answered", cdb)
	}
	return x
}

// want checks status and sense: "good", "conflict", "05/24/00" …
func (x *played) want(why, answer string) *played {
	x.p.d.Helper()
	if got := x.answered(); got != answer {
		x.p.d.Errorf("%s: %x is answered %s, not %s", why, x.cdb, got, answer)
	}
	return x
}

func (x *played) answered() string {
	switch x.status {
	case Good:
		return "good"
	case ReservationConflict:
		return "conflict"
	}
	return fmt.Sprintf("%02X/%02X/%02X", x.sense.code.key(), x.sense.code.asc(), x.sense.code.ascq())
}

// wantPointer checks the byte of the list, and bit, that the sense points to.
func (x *played) wantPointer(field uint16, bit int8) {
	x.p.d.Helper()
	if x.sense.pointing != pointsList || x.sense.field != field || x.sense.bit != bit {
		x.p.d.Errorf("%x: the sense points to %d, byte %d, bit %d", x.cdb, x.sense.pointing, x.sense.field, x.sense.bit)
	}
}

func prout(action, typ byte, n int) []byte {
	return []byte{0x5F, action, typ, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 0}
}

func proutKeys(key, actionKey uint64, flags byte, ids ...string) []byte {
	b := binary.BigEndian.AppendUint64(nil, key)
	b = append(binary.BigEndian.AppendUint64(b, actionKey), 0, 0, 0, 0, flags, 0, 0, 0)
	if len(ids) == 0 {
		return b
	}
	var names []byte
	for _, id := range ids {
		names = appendTransportID(names, id)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(names))), names...)
}

// pr is a PERSISTENT RESERVE OUT.
func (p *player) pr(action, typ byte, key, actionKey uint64) *played {
	p.d.Helper()
	return p.do(prout(action, typ, 24), proutKeys(key, actionKey, 0), 0)
}

// prin is a PERSISTENT RESERVE IN, as hex.
func (p *player) prin(action byte, allocated int) string {
	p.d.Helper()
	x := p.do([]byte{0x5E, action, 0, 0, 0, 0, 0, byte(allocated >> 8), byte(allocated), 0}, nil, max(allocated, 1)).want("PERSISTENT RESERVE IN", "good")
	return hex.EncodeToString(x.data[:x.send])
}

func (p *player) wantIn(why string, action byte, allocated int, want string) {
	p.d.Helper()
	if got := p.prin(action, allocated); got != strings.ReplaceAll(want, " ", "") {
		p.d.Errorf("%s: %s, want %s", why, got, want)
	}
}

func (p *player) read() *played { p.d.Helper(); return p.do(cdb10(0x28, 0, 0, 1), nil, 512) }
func (p *player) write() *played {
	p.d.Helper()
	return p.do(cdb10(0x2A, 0, 0, 1), make([]byte, 512), 0)
}
func (p *player) ready() *played { p.d.Helper(); return p.do([]byte{0}, nil, 0) }

func TestPersistentReserveIn(t *testing.T) {
	d := newDoors(t)
	a, b := d.enter("a", 1, 0), d.enter("b", 2, 1)
	a.wantIn("no keys", 0, 255, "00000000 00000000")
	a.wantIn("no reservation", 1, 255, "00000000 00000000")
	a.wantIn("capabilities", 2, 255, "0008 0c 90 ea01 0000")
	a.wantIn("no status", 3, 255, "00000000 00000000")
	a.pr(proutIgnore, 0, 0, 0xA1).want("register", "good")
	b.pr(proutRegister, 0, 0, 0xB1).want("register", "good")
	b.wantIn("keys", 0, 255, "00000002 00000010 00000000000000a1 00000000000000b1")
	b.wantIn("keys, cut", 0, 20, "00000002 00000010 00000000000000a1 00000000")
	b.wantIn("keys, their number", 0, 8, "00000002 00000010")
	b.wantIn("keys, nothing of them", 0, 0, "")
	a.pr(proutReserve, 5, 0xA1, 0).want("reserve", "good")
	b.wantIn("reservation", 1, 255, "00000002 00000010 00000000000000a1 00000000 00 05 0000")
	name := func(s string) string {
		return hex.EncodeToString([]byte(s)) + strings.Repeat("00", 4-len(s)%4)
	}
	b.wantIn("status", 3, 1024, "00000002 00000080"+
		"00000000000000a1 00000000 01 05 00000000 0001 00000028 45 00 0024"+name("iqn.2026-01.test:a,i,0x800000000061")+
		"00000000000000b1 00000000 00 00 00000000 0002 00000028 45 00 0024"+name("iqn.2026-01.test:b,i,0x800000000062"))
	a.pr(proutRelease, 5, 0xA1, 0).want("release", "good")
	b.quiet()
	a.pr(proutReserve, 7, 0xA1, 0).want("reserve for all", "good")
	b.wantIn("reservation of all", 1, 255, "00000002 00000010 0000000000000000 00000000 00 07 0000")
	for action := byte(4); action < 0x20; action++ {
		a.do([]byte{0x5E, action, 0, 0, 0, 0, 0, 0, 255, 0}, nil, 255).want("an action that there is not", "05/24/00")
	}
	a.do([]byte{0x5F, 8, 0, 0, 0, 0, 0, 0, 24, 0}, make([]byte, 24), 0).want("an action that there is not", "05/24/00")
}

// TestPersistentReservations is what the public suite asks of access and of ownership, for all types.
func TestPersistentReservations(t *testing.T) {
	for _, c := range []struct {
		what                               string
		typ                                byte
		reads, writes, readsNot, writesNot string // of another who is registered, and of one who is not any more
	}{
		{"exclusive access", 3, "conflict", "conflict", "conflict", "conflict"},
		{"write exclusive", 1, "good", "conflict", "good", "conflict"},
		{"exclusive access, registrants only", 6, "good", "good", "conflict", "conflict"},
		{"write exclusive, registrants only", 5, "good", "good", "good", "conflict"},
		{"exclusive access, all registrants", 8, "good", "good", "conflict", "conflict"},
		{"write exclusive, all registrants", 7, "good", "good", "good", "conflict"},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := newDoors(t)
			a, b := d.enter("a", 1, 0), d.enter("b", 1, 1)
			a.pr(proutIgnore, 0, 0, 1).want("register", "good")
			a.pr(proutRegister, 0, 0, 9).want("register again without the key", "conflict")
			b.pr(proutIgnore, 0, 0, 2).want("register", "good")
			a.pr(proutReserve, c.typ, 2, 0).want("reserve with another's key", "conflict")
			a.pr(proutReserve, c.typ, 1, 0).want("reserve", "good")
			a.pr(proutReserve, c.typ, 1, 0).want("reserve again", "good")
			a.pr(proutReserve, 1+c.typ%3, 1, 0).want("reserve as another type", map[bool]string{true: "05/24/00", false: "conflict"}[1+c.typ%3 == 2])
			a.read().want("the holder reads", "good")
			a.write().want("the holder writes", "good")
			b.read().want("a registrant reads", c.reads)
			b.write().want("a registrant writes", c.writes)
			a.pr(proutRelease, 1+c.typ%6, 1, 0).want("release of another type", "05/26/04")
			b.pr(proutRegister, 0, 2, 0).want("unregister", "good")
			b.read().want("one who is not registered reads", c.readsNot)
			b.write().want("one who is not registered writes", c.writesNot)
			b.ready().want("TEST UNIT READY", "good")
			for _, action := range []byte{proutReserve, proutRelease, proutClear, proutPreempt} {
				b.pr(action, c.typ, 0, 1).want("one who is not registered", "conflict")
			}
			b.pr(proutRegister, 0, 0, 2).want("register once more", "good")
			a.pr(proutRegister, 0, 1, 0).want("the holder unregisters", "good")
			if all := c.typ > 6; all {
				b.wantIn("what all hold stays", 1, 8, "00000005 00000010")
				b.pr(proutRelease, c.typ, 2, 0).want("release", "good")
			} else if a.wantIn("it is released", 1, 8, "00000005 00000000"); c.typ > 4 {
				b.ready().want("the other is told", "06/2A/04")
			}
			b.ready().want("told once", "good")
			a.ready().want("who did it is not told", "good")
		})
	}
}

func TestPreemptAndClear(t *testing.T) {
	d := newDoors(t)
	a, b, c := d.enter("a", 1, 0), d.enter("b", 1, 1), d.enter("c", 2, 1)
	for i, p := range []*player{a, b, c} {
		p.pr(proutRegister, 0, 0, uint64(i+1)).want("register", "good")
	}
	a.pr(proutReserve, 3, 1, 0).want("reserve", "good")
	b.pr(proutPreempt, 3, 2, 0).want("preempt key 0", "05/26/00")
	b.pr(proutPreempt, 3, 2, 7).want("preempt a key that nobody has", "conflict")
	b.pr(proutPreempt, 3, 2, 3).want("preempt one who does not hold", "good")
	c.ready().want("the preempted is told", "06/2A/05")
	c.read().want("the preempted reads", "conflict")
	b.pr(proutPreemptAbort, 1, 2, 1).want("preempt the holder", "good")
	a.ready().want("the preempted holder is told", "06/2A/05")
	a.read().want("it reads what is write exclusive", "good")
	a.write().want("it writes", "conflict")
	b.wantIn("the reservation", 1, 255, "00000005 00000010 0000000000000002 00000000 00 01 0000")
	a.pr(proutRegister, 0, 0, 1).want("register", "good")
	b.pr(proutClear, 0, 9, 0).want("clear with a wrong key", "conflict")
	b.pr(proutClear, 0, 2, 0).want("clear", "good")
	a.ready().want("others are told", "06/2A/03")
	b.ready().want("who cleared is not", "good")
	b.wantIn("no keys", 0, 255, "00000007 00000000")
}

// TestRegisterForOthers: ALL_TG_PT, SPEC_I_PT, REGISTER AND MOVE.
func TestRegisterForOthers(t *testing.T) {
	d := newDoors(t)
	a, a2, b := d.enter("a", 1, 0), d.enter("a", 2, 1), d.enter("b", 1, 1)
	a.do(prout(proutRegister, 0, 24), proutKeys(0, 1, proutAllTGPT), 0).want("register by all ports", "good")
	a.wantIn("by two ports", 0, 255, "00000001 00000010 0000000000000001 0000000000000001")
	a2.pr(proutReserve, 1, 1, 0).want("reserve by the other port", "good")
	a.write().want("the same initiator by the other port writes", "conflict")
	a.do(prout(proutRegister, 0, 24), proutKeys(1, 0, proutAllTGPT), 0).want("unregister by all ports", "good")
	a.wantIn("none", 0, 255, "00000002 00000000")

	bPort, c := "iqn.2026-01.test:b,i,0x800000000062", "iqn.2026-01.test:c,i,0x000000000001"
	list := proutKeys(0, 5, proutSpecIPT, "iqn.2026-01.test:b", c)
	a.do(prout(proutRegister, 0, len(list)), list, 0).want("register for others", "good")
	a.wantIn("three", 0, 255, "00000003 00000018 0000000000000005 0000000000000005 0000000000000005")
	b.pr(proutReserve, 1, 5, 0).want("one of them reserves", "good")
	list = proutKeys(0, 5, proutSpecIPT, "iqn.2026-01.test:d,i,0x000000000001", c)
	e := d.enter("e", 1, 1)
	e.do(prout(proutRegister, 0, len(list)), list, 0).want("for one who is registered", "05/26/00").wantPointer(20, 3)
	a.wantIn("still three", 0, 8, "00000003 00000018")
	list = proutKeys(7, 5, proutSpecIPT, c)
	a.do(prout(proutRegister, 0, len(list)), list, 0).want("for others with a wrong key", "conflict")
	b.pr(proutRelease, 0x11, 5, 0).want("release in another scope", "05/26/04")
	for _, x := range []struct {
		what   string
		action byte
		list   []byte
		want   string
		field  uint16
		bit    int8
	}{
		{"who is registered", proutRegister, proutKeys(5, 5, proutSpecIPT, c), "05/26/00", 20, 3},
		{"another action", proutIgnore, proutKeys(0, 5, proutSpecIPT, c), "05/26/00", 20, 3},
		{"an initiator whom nobody knows", proutRegister, proutKeys(0, 5, proutSpecIPT, "iqn.2026-01.test:z"), "05/26/00", 28, -1},
		{"a name that is none", proutRegister, proutKeys(0, 5, proutSpecIPT, "b,i,0x1"), "05/26/00", 32, -1},
		{"an ISID that is none", proutRegister, proutKeys(0, 5, proutSpecIPT, c+"0000"), "05/26/00", 32, -1},
		{"a list that goes on", proutRegister, append(proutKeys(0, 5, proutSpecIPT, c), 0), "05/26/00", 24, -1},
		{"persistence that there is not", proutRegister, proutKeys(0, 5, proutAPTPL), "05/26/00", 20, 0},
	} {
		p := a2
		if x.field == 20 && x.action == proutRegister && x.bit == 3 {
			p = a
		}
		p.do(prout(x.action, 0, len(x.list)), x.list, 0).want(x.what, x.want).wantPointer(x.field, x.bit)
	}
	for _, n := range []int{0, 23, 25, 1 << 20} {
		a.do(prout(proutRegister, 0, n), make([]byte, n), 0).want(fmt.Sprint("a list of ", n), "05/1A/00")
	}
	a.do(prout(proutRegister, 0, 24), make([]byte, 8), 0).want("less data than the list has", "05/1A/00")
	a.pr(proutReserve, 2, 5, 0).want("a type that there is not", "05/24/00")
	a.pr(proutReserve, 0x11, 5, 0).want("a scope that there is not", "05/24/00")

	// B holds, and moves it to C by port 2.
	move := func(key, actionKey uint64, flags byte, port byte, names ...string) []byte {
		l := binary.BigEndian.AppendUint64(nil, key)
		l = append(binary.BigEndian.AppendUint64(l, actionKey), 0, flags, 0, port)
		var ids []byte
		for _, n := range names {
			ids = appendTransportID(ids, n)
		}
		return append(binary.BigEndian.AppendUint32(l, uint32(len(ids))), ids...)
	}
	for _, x := range []struct {
		what string
		list []byte
		want string
		p    *player
	}{
		{"a port that there is not", move(5, 6, 0, 3, c), "05/26/00", b},
		{"to itself", move(5, 6, 0, 2, bPort), "05/26/00", b},
		{"to key 0", move(5, 0, 0, 2, c), "05/26/00", b},
		{"to two", move(5, 6, 0, 2, c, c), "05/26/00", b},
		{"to nobody", move(5, 6, 0, 2), "05/26/00", b},
		{"with a wrong key", move(6, 6, 0, 2, c), "conflict", b},
		{"of another", move(5, 6, 0, 2, c), "conflict", a},
		{"as it should", move(5, 6, proutUNREG, 2, c), "good", b},
		{"what is gone", move(5, 6, 0, 2, c), "conflict", b},
	} {
		x.p.do(prout(proutMove, 0, len(x.list)), x.list, 0).want(x.what, x.want)
	}
	if s := d.node.units[0].book.State(); s.Holder != reservation.Nexus(c, TargetPort(d.node.name, 2)) || len(s.Registrants) != 3 {
		t.Errorf("moved: %+v", s)
	}
	a.pr(proutClear, 0, 5, 0).want("clear", "good")
	b.quiet()
	a.pr(proutRegister, 0, 0, 1).want("register", "good")
	l := move(1, 6, 0, 2, c)
	a.do(prout(proutMove, 0, len(l)), l, 0).want("nothing to move", "05/24/00")
}

// TestReserve6 is RESERVE and RELEASE, of both lengths: what the public suite asks of two initiators, of logout, loss and resets.
func TestReserve6(t *testing.T) {
	for _, ops := range [][2]byte{{0x16, 0x17}, {0x56, 0x57}} {
		d := newDoors(t)
		a, b := d.enter("a", 1, 0), d.enter("b", 1, 1)
		reserve, release := make([]byte, 10), make([]byte, 10)
		reserve[0], release[0] = ops[0], ops[1]
		a.do(reserve, nil, 0).want("reserve", "good")
		a.do(reserve, nil, 0).want("reserve again", "good")
		b.do(reserve, nil, 0).want("another reserves", "conflict")
		b.do(release, nil, 0).want("another releases", "good")
		a.do([]byte{0x1A, 0, 0x3F, 0, 255}, nil, 255).want("MODE SENSE", "good")
		b.do([]byte{0x1A, 0, 0x3F, 0, 255}, nil, 255).want("another's MODE SENSE", "conflict")
		b.ready().want("another's TEST UNIT READY", "conflict")
		b.do([]byte{0x12, 0, 0, 0, 96}, nil, 96).want("another's INQUIRY", "good")
		late := d.enter("c", 1, 0)
		late.read().want("one who comes later reads", "conflict")
		for _, p := range []*player{a, b} {
			p.pr(proutRegister, 0, 0, 1).want("register", "conflict")
			p.do([]byte{0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0}, nil, 8).want("READ KEYS", "conflict")
		}
		a.do(release, nil, 0).want("release", "good")
		for why, end := range map[string]func(){
			"a logout or a loss": func() { b.s.nexus.letGo() },
			"a reset":            func() { b.s.nexus.reset(d.node.units[0]) },
			"a reset of all":     func() { b.s.nexus.reset(nil) },
		} {
			b.do(reserve, nil, 0).want("another reserves", "good")
			a.read().want("it is kept out", "conflict")
			d.call(b.s.r, end)
			a.read().want("after "+why, "good")
			a.do(reserve, nil, 0).want("reserve after "+why, "good")
			a.do(release, nil, 0).want("release", "good")
			b.quiet()
		}
		a.do([]byte{ops[0], 0x10}, nil, 0).want("for a third party", "05/24/00")
		a.pr(proutRegister, 0, 0, 1).want("register", "good")
		a.do(reserve, nil, 0).want("reserve with registrants", "conflict")
		a.do(release, nil, 0).want("release with registrants", "conflict")
	}
}

func TestTransportIDs(t *testing.T) {
	id := appendTransportID(nil, "iqn.2026-01.test:a,i,0x800000000061")
	name, whole, rest, _, ok := parseTransportID(append(slices.Clone(id), 7))
	if !ok || !whole || name != "iqn.2026-01.test:a,i,0x800000000061" || len(rest) != 1 {
		t.Errorf("read as %q, %v, %x", name, whole, rest)
	}
	if name, whole, _, _, ok := parseTransportID(appendTransportID(nil, "iqn.2026-01.test:a")); !ok || whole || name != "iqn.2026-01.test:a" {
		t.Errorf("read as %q, %v", name, whole)
	}
	if name, _, _, _, _ := parseTransportID(appendTransportID(nil, "iqn.2026-01.test:a,i,0xAB")); name != "iqn.2026-01.test:a,i,0x0000000000ab" {
		t.Errorf("a short ISID is read as %q", name)
	}
	if s := initiatorOf(reservation.Host([16]byte{1})); s != "nqn.2014-08.org.nvmexpress:uuid:01000000-0000-0000-0000-000000000000" {
		t.Errorf("a host is shown as %s", s)
	}
	for _, n := range []int{1, 19, 20, 21, 223, 240} {
		if b := appendTransportID(nil, strings.Repeat("x", n)); len(b)%4 != 0 || len(b) < 24 || b[len(b)-1] != 0 || int(b[3])+4 != len(b)&0xFF && len(b) < 256 {
			t.Errorf("a name of %d bytes is %x", n, b)
		}
	}
	for n := range len(id) {
		if _, _, _, _, ok := parseTransportID(id[:n]); ok {
			t.Errorf("the first %d bytes are read", n)
		}
	}
	for what, alter := range map[string]func(b []byte){
		"another protocol": func(b []byte) { b[0] = 0x46 }, "another format": func(b []byte) { b[0] = 0x85 },
		"a length that is too short": func(b []byte) { b[3] = 16 }, "a length that is no multiple of 4": func(b []byte) { b[3]-- },
		"no end": func(b []byte) { b[len(b)-1] = 'a'; copy(b[4:], bytes.Repeat([]byte("a"), len(b)-4)) }, "no name": func(b []byte) { b[4] = 0 },
		"no ISID": func(b []byte) { b[len(b)-16] = 0 },
	} {
		b := slices.Clone(id)
		if alter(b); bytes.Equal(b, id) {
			t.Errorf("%s: nothing is altered", what)
		}
		if name, _, _, _, ok := parseTransportID(b); ok {
			t.Errorf("%s: read as %q", what, name)
		}
	}
}

// FuzzTransportID: whatever comes, what is accepted is written back as what is read as the same.
func FuzzTransportID(f *testing.F) {
	f.Add(appendTransportID(nil, "iqn.2026-01.test:a,i,0x800000000061"))
	f.Add(appendTransportID(nil, "iqn.2026-01.test:a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, whole, _, _, ok := parseTransportID(b)
		if !ok {
			return
		}
		again, wholeAgain, rest, _, ok := parseTransportID(appendTransportID(nil, name))
		if !ok || again != name || whole != wholeAgain || len(rest) > 0 {
			t.Fatalf("%q is read back as %q", name, again)
		}
	})
}
