package nvmf

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
)

// goesOn is a connection that is acted on, comes to rest and goes on elsewhere, as seed has it.
type goesOn struct {
	c               Conn
	buf             int
	moving, keeping bool
	kept            []byte
	place           []byte // of the data that arrives, nil if it is thrown away
	commands, data  []string
	name            string
	hops            int
}

func (g *goesOn) open(icreq ICReq) {
	g.c.Init(SideController, make([]byte, g.buf), 0)
	g.c.Limits(64<<10, 64<<10)
	if g.hops > 0 {
		g.c.opened(icreq.Digests)
	}
}

// act takes what has arrived until there is no more.
func (g *goesOn) act(t *testing.T) {
	for {
		switch a := g.c.Next(); a {
		case ArrivedNothing:
			return
		case ArrivedIC:
		case ArrivedCommand:
			if g.moving {
				g.keeping = g.c.Awaiting()
				g.kept = g.c.Keep(g.kept)
				continue
			}
			g.name = fmt.Sprint("command ", g.c.SQE.CID())
			if g.c.DataBytes == 0 {
				g.commands = append(g.commands, g.name)
				continue
			}
			g.place = make([]byte, g.c.DataBytes)
			g.c.Place(g.place)
		case ArrivedData:
			g.name = fmt.Sprint("data ", g.c.Data.CCCID, " at ", g.c.Data.DATAO)
			g.place = make([]byte, g.c.DataBytes)
			g.c.Place(g.place)
		case ArrivedDataEnd:
			if g.keeping {
				g.keeping = false
				g.kept = g.c.KeepEnd(g.kept)
				continue
			}
			s := fmt.Sprint(g.name, ": ", len(g.place), " bytes ", crc32.ChecksumIEEE(g.place), " right ", g.c.DigestOK)
			if g.name[0] == 'c' {
				g.commands = append(g.commands, s)
			} else {
				g.data = append(g.data, s)
			}
		default:
			t.Fatalf("arrival %d: %v", a, g.c.Fault.Error())
		}
	}
}

// hop lets it go on, here or elsewhere, if it may.
func (g *goesOn) hop(elsewhere bool) {
	if !g.moving || !g.c.Between() && !g.keeping {
		return
	}
	remains := g.c.Remains(g.kept, g.keeping)
	icreq := ICReq{Digests: g.c.Digests()}
	g.moving, g.keeping, g.kept = false, false, nil
	g.hops++
	if elsewhere {
		g.open(icreq)
	}
	g.c.Resume(remains)
}

// A connection that goes on elsewhere, any number of times and wherever it stands, gives the same commands and the same data as one that
// stays: each kind in its order, the digests judged alike.
func FuzzConnGoesOn(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		digests := Digests(rnd.IntN(4))
		stream := ICReq{Digests: digests}.AppendTo(nil)
		for i := range 30 {
			var data []byte
			if rnd.IntN(3) > 0 {
				data = make([]byte, 1+rnd.IntN(1+rnd.IntN(40<<10)))
				for j := range data {
					data[j] = byte(rnd.Uint32())
				}
			}
			if rnd.IntN(3) == 0 && data != nil {
				stream = DataPDU{CCCID: CID(i), DATAL: uint32(len(data)), Last: true}.AppendH2CData(stream, digests, 4)
			} else {
				var s SQE
				s.Init(uint8(IOWrite), CID(i), 1)
				stream = AppendCapsuleCmd(stream, &s, uint32(len(data)), digests, 4)
			}
			stream = append(stream, data...)
			if digests&DataDigests != 0 && data != nil {
				d := DataDigest(0, data)
				if rnd.IntN(5) == 0 {
					d++
				}
				stream = AppendDigest(stream, d)
			}
		}
		run := func(moves bool) *goesOn {
			g := &goesOn{buf: 4096 << rnd.IntN(5)}
			g.open(ICReq{})
			for rest := stream; ; {
				g.act(t)
				if len(g.commands)+len(g.data) > 0 && moves && rnd.IntN(3) == 0 {
					g.moving = true
				}
				if rnd.IntN(4) == 0 || len(rest) == 0 {
					g.hop(rnd.IntN(2) == 0)
					g.act(t)
				}
				if len(rest) == 0 && !g.moving {
					return g
				}
				room := g.c.Room()
				if k := copy(room[:min(len(room), 1+rnd.IntN(1+rnd.IntN(20<<10)))], rest); k > 0 {
					rest = rest[k:]
					g.c.Feed(k)
				}
			}
		}
		stays, goes := run(false), run(true)
		if !slices.Equal(stays.commands, goes.commands) {
			t.Errorf("after %d hops the commands are\n%q, want\n%q", goes.hops, goes.commands, stays.commands)
		}
		if !slices.Equal(stays.data, goes.data) {
			t.Errorf("after %d hops the data is\n%q, want\n%q", goes.hops, goes.data, stays.data)
		}
		if len(stays.commands)+len(stays.data) != 30 {
			t.Errorf("%d commands and %d pieces of data arrived, want 30", len(stays.commands), len(stays.data))
		}
	})
}
