package iscsi

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// rig is a target node with units on a simulated reactor, as a session with it sees it. The test plays the transport.
type rig struct {
	testing.TB
	group  *reactor.Group
	r      *reactor.Reactor
	bdevs  *bdev.Registry
	node   *nodeView
	nexus  *nexus
	now    reactor.Ticks
	starve int // how often the next commands get no memory at first
}

const (
	rigBlocks = 4096
	rigName   = "iqn.2026-01.io.pollux:disk1"
)

var rigUUID = uuid.MustParse("01234567-89ab-4cde-8f01-23456789abcd")

// newRig makes one with a device in memory as LUN 0.
func newRig(t testing.TB, blockSize uint32) *rig {
	t.Helper()
	return newRigOf(t, blockSize, rigBlocks)
}

func newRigOf(t testing.TB, blockSize uint32, blocks uint64) *rig {
	t.Helper()
	g, err := reactor.Simulate(1, reactor.Config{MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Abandon)
	rg := &rig{TB: t, group: g, r: g.Reactor(0), bdevs: bdev.NewRegistry(g)}
	rg.node = &nodeView{name: rigName, maps: []mapView{{group: &groupView{tag: 1}}, {group: &groupView{tag: 7}}}}
	rg.nexus = rg.newNexus()
	if _, err := bdev.NewMem(rg.bdevs, "Mem0", rigUUID, blockSize, blocks); err != nil {
		t.Fatal(err)
	}
	rg.attach(0, "Mem0")
	rg.quiet()
	return rg
}

func (g *rig) newNexus() *nexus { return &nexus{initiator: "iqn.a,i,0x1", tag: 1} }

// attach makes a device the unit at lun.
func (g *rig) attach(lun int, name string) *Unit {
	g.Helper()
	u := &Unit{LUN: lun, BdevName: name, shares: []*unitShare{{}}}
	var err error
	if u.handle, err = g.bdevs.Open(name, bdev.OpenOptions{Who: "test"}); err != nil {
		g.Fatal(err)
	}
	if u.channels, err = u.handle.Channels(); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		bdev.CloseChannels(u.channels)
		u.handle.Close()
	})
	for len(g.node.units) <= lun {
		g.node.units = append(g.node.units, nil)
	}
	g.node.units[lun] = u
	g.join(g.nexus)
	return u
}

// join makes the nexus see the node's units.
func (g *rig) join(n *nexus) {
	n.install(g.node, g.r)
}

// quiet takes what the nexus has to be told.
func (g *rig) quiet() {
	for i := range g.nexus.units {
		if n := g.nexus.units[i]; n != nil {
			for n.attentions.some(n.unit) {
				n.attentions.take(n.unit)
			}
		}
	}
}

// exchange is a command as the transport sees it.
type exchange struct {
	command
	g      *rig
	brings []byte // of the initiator
	starve int
	lent   []byte
	waits  bool
	ends   int

	in        []byte // what went to the initiator
	senseData []byte
}

// lend gives memory, unless it is to be late.
func (x *exchange) lend(n uint32) bool {
	if x.starve > 0 {
		x.starve--
		x.waits = true
		return false
	}
	x.lent = x.g.r.Memory().Get(int(n))
	for i := range x.lent {
		x.lent[i] = 0xEE // whatever was there
	}
	x.data = x.lent
	return true
}

// end takes the answer.
func (x *exchange) end() { x.ends++ }

// option changes a command before it begins.
type option func(x *exchange)

func at(lun int) option { return func(x *exchange) { x.lun = lunOf(lun) } }

// wants gives the EDTL of a command that reads.
func wants(n int) option {
	return func(x *exchange) { x.reads, x.writes, x.edtl = true, false, uint32(n) }
}

// sends gives what a command has to write.
func sends(b []byte) option {
	return func(x *exchange) { x.reads, x.writes, x.edtl, x.brings = false, true, uint32(len(b)), b }
}

func by(n *nexus) option { return func(x *exchange) { x.nexus = n } }

// start brings a command up to its execution; it may have ended then.
func (g *rig) start(cdb []byte, options ...option) *exchange {
	x := &exchange{g: g, starve: g.starve}
	x.port, x.nexus = x, g.nexus
	copy(x.cdb[:], cdb)
	for _, o := range options {
		o(x)
	}
	x.unit, x.req.Done = x.nexus.find(x.lun), &x.command
	x.command.start()
	g.call(func() {
		if !x.admit() {
			x.ends++
			return
		}
		if x.out > uint32(len(x.brings)) || x.out > reactor.BufferMax || x.out > x.edtl {
			g.Fatalf("%x asks for %d bytes, and the initiator has %d", x.cdb, x.out, len(x.brings))
		}
		if x.out > 0 {
			x.lent = g.r.Memory().Get(int(x.out))
			x.data = x.lent
			copy(x.data, x.brings)
		}
		x.execute()
	})
	return x
}

func (g *rig) call(f func()) {
	if err := g.r.Call(f); err != nil {
		g.Fatal(err)
	}
}

// step lets the reactor work.
func (g *rig) step() {
	g.now += reactor.Ticks(1000)
	g.group.Step(g.now)
}

// finish waits for the answer.
func (g *rig) finish(x *exchange) *exchange {
	g.Helper()
	for i := 0; x.ends == 0; i++ {
		if i > 100000 {
			g.Fatalf("%x is not answered", x.cdb)
		}
		if x.waits {
			x.waits = false
			g.call(x.execute)
		}
		g.step()
	}
	g.step()
	if x.ends != 1 {
		g.Fatalf("%x is answered %d times", x.cdb, x.ends)
	}
	if x.status == Good || x.status == ConditionMet {
		if x.send > uint32(len(x.data)) || x.send > x.edtl {
			g.Fatalf("%x sends %d of %d bytes, of which %d are wanted", x.cdb, x.send, len(x.data), x.edtl)
		}
		x.in = append([]byte{}, x.data[:x.send]...)
	} else if x.send != 0 {
		g.Fatalf("%x fails and sends data", x.cdb)
	}
	x.senseData = x.AppendSense(nil)
	if x.lent != nil {
		g.call(func() { g.r.Memory().Put(x.lent) })
	}
	return x
}

// do runs a command to its end.
func (g *rig) do(cdb []byte, options ...option) *exchange {
	g.Helper()
	return g.finish(g.start(cdb, options...))
}

// Want checks status and sense: "good", "conflict", "05/24/00" …
func (x *exchange) Want(why, answer string) *exchange {
	x.g.Helper()
	if got := x.answered(); got != answer {
		x.g.Fatalf("%s: %x is answered %s, not %s", why, x.cdb, got, answer)
	}
	return x
}

func (x *exchange) answered() string {
	switch x.status {
	case Good:
		return "good"
	case CheckCondition:
		return fmt.Sprintf("%02X/%02X/%02X", x.sense.code.key(), x.sense.code.asc(), x.sense.code.ascq())
	case ReservationConflict:
		return "conflict"
	case Busy:
		return "busy"
	}
	return fmt.Sprintf("status %02X", uint8(x.status))
}

// WantPointer checks that the sense points to a byte of the CDB, or of the list.
func (x *exchange) WantPointer(p pointing, field uint16) {
	x.g.Helper()
	if x.sense.pointing != p || x.sense.field != field {
		x.g.Fatalf("%x: the sense points to %d byte %d, not %d byte %d", x.cdb, x.sense.pointing, x.sense.field, p, field)
	}
}

// The CDBs that many tests use.

func cdb10(op, flags byte, lba uint32, n uint16) []byte {
	b := binary.BigEndian.AppendUint32([]byte{op, flags}, lba)
	return append(binary.BigEndian.AppendUint16(append(b, 0), n), 0)
}

func cdb12(op, flags byte, lba, n uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{op, flags}, lba)
	return append(binary.BigEndian.AppendUint32(b, n), 0, 0)
}

func cdb16(op, flags byte, lba uint64, n uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{op, flags}, lba)
	return append(binary.BigEndian.AppendUint32(b, n), 0, 0)
}

// cdbOf is the CDB of an operation code whose layout is that of its length.
func cdbOf(op, flags byte, lba uint64, n uint32) []byte {
	switch op >> 5 {
	case 0:
		return []byte{op, byte(lba >> 16), byte(lba >> 8), byte(lba), byte(n), 0}
	case 1, 2:
		return cdb10(op, flags, uint32(lba), uint16(n))
	case 5:
		return cdb12(op, flags, uint32(lba), n)
	}
	return cdb16(op, flags, lba, n)
}

// random is n bytes that are not zeros.
func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.UintN(255) + 1)
	}
	return b
}

// write puts bytes on the device.
func (g *rig) write(lba uint64, b []byte) {
	g.Helper()
	n := uint32(len(b)) / g.blockSize()
	g.do(cdb16(0x8A, 0, lba, n), sends(b)).Want("preparing", "good")
}

// read takes them.
func (g *rig) read(lba uint64, blocks int) []byte {
	g.Helper()
	return g.do(cdb16(0x88, 0, lba, uint32(blocks)), wants(blocks*int(g.blockSize()))).Want("looking", "good").in
}

func (g *rig) blockSize() uint32 { return g.nexus.units[0].ch.Geometry().BlockSize }

// reshape changes the device's shape as the channel shows it.
func (g *rig) reshape(change func(q *bdev.Geometry)) {
	change(g.nexus.units[0].ch.Geometry())
}
