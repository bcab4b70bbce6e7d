package initiator

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
)

// ends keeps how the commands of a connection under test ended.
type ends struct{ got map[int]nvmf.CQE }

type endOf struct {
	e *ends
	i int
}

func (o endOf) answered(cqe nvmf.CQE) { o.e.got[o.i] = cqe }
func (o endOf) lost(bool)             {}

func newSlots(n int) *slots {
	s := &slots{}
	s.init(n)
	return s
}

// opened makes a connection whose ICReq was sent and answered.
func opened(t testing.TB, slots int, capsule uint32, d nvmf.Digests, ic nvmf.ICResp) *conn {
	t.Helper()
	k := &conn{}
	k.init(newSlots(slots), capsule, d, make([]byte, 4096))
	if got := drain(k, 0); !bytes.Equal(got, nvmf.ICReq{Digests: d, MAXR2T: r2tsMax - 1}.AppendTo(nil)) {
		t.Fatalf("it begins with %x", got)
	}
	if e := k.take(ic.AppendTo(nil)); e != eventOpen {
		t.Fatalf("event %d", e)
	}
	return k
}

// take feeds b, and gives the first event; answers are given to the commands' owners.
func (k *conn) take(b []byte) event {
	for {
		e, c := k.next()
		if e == eventAnswer {
			o, cqe := c.owner, c.cqe
			k.release(c)
			o.answered(cqe)
			continue
		}
		if e != eventNothing || len(b) == 0 {
			return e
		}
		n := copy(k.in.Room(), b)
		k.in.Feed(n)
		b = b[n:]
	}
}

// drain gives all that the connection wants to send, taken step bytes at a time; 0 is all at once.
func drain(k *conn, step int) (out []byte) {
	for {
		v := k.output()
		if len(v) == 0 {
			return out
		}
		if len(v) > vecMax {
			panic("more pieces than a send takes")
		}
		n := 0
		for _, b := range v {
			if step > 0 {
				b = b[:min(len(b), step-n)]
			}
			out = append(out, b...)
			n += len(b)
		}
		if k.sent(n) {
			for c := k.takeLate(); c != nil; c = k.takeLate() {
				o, cqe := c.owner, c.cqe
				k.release(c)
				o.answered(cqe)
			}
		}
	}
}

// begin starts a command with data in pieces.
func (k *conn) begin(t testing.TB, o owner, op nvmf.IOOpcode, data [][]byte) *command {
	t.Helper()
	c := k.acquire(o)
	if c == nil {
		t.Fatal("no slot")
	}
	c.sqe.Init(uint8(op), 0, 1)
	if len(data) > 0 {
		c.lend(data, op == nvmf.IORead)
	}
	k.start(c)
	return c
}

// farSide is the other side of a connection: it takes the stream apart and puts the data of writes together.
type farSide struct {
	t    testing.TB
	in   nvmf.Conn
	sqes []nvmf.SQE
	data map[nvmf.CID][]byte
	r2t  func(s *nvmf.SQE) // a write without its data
}

func newFarSide(t testing.TB, d nvmf.Digests, capsule, h2cMax uint32) *farSide {
	f := &farSide{t: t, data: map[nvmf.CID][]byte{}}
	f.in.Init(nvmf.SideController, make([]byte, 1<<20), 0)
	f.in.Limits(capsule, h2cMax)
	f.take(nvmf.ICReq{Digests: d}.AppendTo(nil))
	return f
}

func (f *farSide) take(b []byte) {
	f.t.Helper()
	for {
		switch f.in.Next() {
		case nvmf.ArrivedNothing:
			if len(b) == 0 {
				return
			}
			n := copy(f.in.Room(), b)
			f.in.Feed(n)
			b = b[n:]
		case nvmf.ArrivedIC:
		case nvmf.ArrivedCommand:
			s := *f.in.SQE
			f.sqes = append(f.sqes, s)
			place, n, st := s.TCPData(f.in.DataBytes)
			if !st.OK() {
				f.t.Fatalf("the data pointer of %v: %v", nvmf.IOOpcode(s.Opcode()), st)
			}
			f.data[s.CID()] = make([]byte, n)
			if f.in.DataBytes > 0 {
				f.in.Place(f.data[s.CID()])
			} else if place == nvmf.DataTransfer && s.Opcode()&3 == 1 {
				f.r2t(&s)
			}
		case nvmf.ArrivedData:
			d := f.in.Data
			f.in.Place(f.data[d.CCCID][d.DATAO:][:d.DATAL])
		case nvmf.ArrivedDataEnd:
			if !f.in.DigestOK {
				f.t.Fatal("a wrong data digest")
			}
		default:
			f.t.Fatalf("the stream is wrong: %v", f.in.Fault)
		}
	}
}

// What is sent is whole, in order and right, however often the socket takes only a part of it, and however the memory of the
// requests is cut into pieces.
func TestOutputIsWhole(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests, nvmf.DataDigests, nvmf.HeaderDigests | nvmf.DataDigests} {
		for _, cpda := range []uint8{0, 31} {
			for _, step := range []int{0, 1, 100, 4096} {
				t.Run(fmt.Sprintf("digests %d, CPDA %d, %d bytes at a time", d, cpda, step), func(t *testing.T) {
					const h2c = 4100
					k := opened(t, 64, 8192, d, nvmf.ICResp{CPDA: cpda, Digests: d, MAXH2CDATA: h2c})
					f := newFarSide(t, d, 8192, h2c)
					f.in.Limits(8192, h2c)
					e := &ends{map[int]nvmf.CQE{}}
					want := map[nvmf.CID][]byte{}
					var back []byte
					f.r2t = func(s *nvmf.SQE) {
						n := s.SGL().Bytes
						for i := range uint32(r2tsMax) {
							from, to := n*i/r2tsMax, n*(i+1)/r2tsMax
							back = nvmf.R2T{CCCID: s.CID(), TTAG: uint16(s.CID()) + uint16(i), R2TO: from, R2TL: to - from}.AppendTo(back, d)
						}
					}
					for i, size := range []int{512, 8192, 8192, 32 << 10, 100 << 10, 4096, 0, 65536 + 512} {
						data := pattern(size, uint64(i))
						piece := []int{512, 1024, max(size, 1)}[i%3]
						if i == 2 {
							piece = 64 // too many pieces for a capsule
						}
						op := nvmf.IOWrite
						if size == 0 {
							op = nvmf.IOFlush
						}
						c := k.begin(t, endOf{e, i}, op, pieces(data, piece))
						want[c.cid] = data
					}
					for len(k.output()) > 0 {
						f.take(drain(k, step))
						b := back
						back = nil
						if ev := k.take(b); ev != eventNothing {
							t.Fatalf("event %d, %v", ev, k.fault)
						}
					}
					if len(f.sqes) != len(want) {
						t.Fatalf("%d commands came, of %d", len(f.sqes), len(want))
					}
					for cid, w := range want {
						if !bytes.Equal(f.data[cid], w) {
							t.Errorf("command %d: its %d bytes are not those that came", cid, len(w))
						}
					}
					var answers []byte
					for _, s := range f.sqes {
						answers = nvmf.AppendCapsuleResp(answers, nvmf.CQE{CID: s.CID()}, d)
					}
					if ev := k.take(answers); ev != eventNothing || len(e.got) != len(want) || k.used != 0 {
						t.Errorf("event %d; %d answers, %d slots in use", ev, len(e.got), k.used)
					}
				})
			}
		}
	}
}

// Commands are sent in the order in which they were started.
func TestCapsulesKeepTheirOrder(t *testing.T) {
	k := opened(t, 200, 8192, 0, nvmf.ICResp{MAXH2CDATA: 4096})
	f := newFarSide(t, 0, 8192, 4096)
	f.r2t = func(*nvmf.SQE) {}
	e := &ends{map[int]nvmf.CQE{}}
	var want []nvmf.CID
	for i := range 200 {
		n := []int{512, 20000 &^ 511, 4096}[i%3]
		want = append(want, k.begin(t, endOf{e, i}, nvmf.IOWrite, pieces(make([]byte, n), 512)).cid)
	}
	if k.acquire(endOf{e, 200}) != nil {
		t.Error("more commands than slots")
	}
	f.take(drain(k, 0))
	for i, s := range f.sqes {
		if s.CID() != want[i] {
			t.Fatalf("command %d is %d, want %d", i, s.CID(), want[i])
		}
	}
}

// An answer that comes while the socket still has the command's data is kept until that has left.
func TestAnswerWaitsForTheDataToLeave(t *testing.T) {
	k := opened(t, 2, 8192, 0, nvmf.ICResp{MAXH2CDATA: 4096})
	e := &ends{map[int]nvmf.CQE{}}
	c := k.begin(t, endOf{e, 0}, nvmf.IOWrite, [][]byte{make([]byte, 8192)})
	if n := len(k.output()); n != 2 {
		t.Fatalf("%d pieces", n)
	}
	k.sent(100)
	k.take(nvmf.AppendCapsuleResp(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: c.cid}, 0), nvmf.CQE{CID: c.cid ^ 1}, 0)[:24])
	if len(e.got) > 0 {
		t.Error("it ended while the socket had its data")
	}
	drain(k, 0)
	if len(e.got) != 1 || k.used != 0 {
		t.Errorf("%d ends, %d slots in use", len(e.got), k.used)
	}
}

// FuzzConn feeds what a target might send, cut anywhere, to a connection with commands of every sort. It must never panic, never
// end a command twice, and never touch memory after its end.
func FuzzConn(f *testing.F) {
	ic := nvmf.ICResp{MAXH2CDATA: 4096}.AppendTo(nil)
	read := nvmf.DataPDU{CCCID: 1 << slotBits, DATAL: 4096, Last: true, Success: true}.AppendC2HData(nil, 0, 4)
	f.Add(append(append([]byte(nil), ic...), append(read, make([]byte, 4096)...)...), uint16(7), false)
	f.Add(append(append([]byte(nil), ic...), nvmf.R2T{CCCID: 1<<slotBits | 1, R2TL: 16384}.AppendTo(nil, 0)...), uint16(100), false)
	f.Add(append(append([]byte(nil), ic...), nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: 1<<slotBits | 2}, 0)...), uint16(1), false)
	f.Add(append(append([]byte(nil), ic...), nvmf.TermReq{Type: nvmf.PDUC2HTermReq, Err: nvmf.ErrSequence}.AppendTo(nil)...), uint16(9), false)
	f.Add(append([]byte(nil), ic...), uint16(3), true)
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16, digests bool) {
		var d nvmf.Digests
		if digests {
			d = nvmf.HeaderDigests | nvmf.DataDigests
		}
		k := &conn{}
		k.init(newSlots(4), 8192, d, make([]byte, 1024))
		ended := map[uint16]bool{}
		end := func(c *command) {
			if ended[c.index] {
				t.Fatal("a command ended twice")
			}
			ended[c.index] = true
			for _, b := range c.data {
				clear(b) // the owner's again
			}
			k.release(c)
		}
		size := max(int(cut), 1)
		for len(stream) > 0 {
			room := k.in.Room()
			n := copy(room[:min(len(room), size)], stream)
			if n == 0 {
				t.Fatal("no room, and nothing to wait for")
			}
			stream = stream[n:]
			k.in.Feed(n)
			for more := true; more; {
				e, c := k.next()
				switch e {
				case eventOpen:
					k.begin(t, endOf{}, nvmf.IORead, [][]byte{make([]byte, 4096)})
					k.begin(t, endOf{}, nvmf.IOWrite, pieces(make([]byte, 16384), 4096))
					k.begin(t, endOf{}, nvmf.IOFlush, nil)
					k.begin(t, endOf{}, nvmf.IORead, pieces(make([]byte, 8192), 512))
				case eventAnswer:
					end(c)
				case eventNothing:
					more = false
				case eventFault, eventTermReq:
					drain2(k)
					return
				}
			}
			for v := k.output(); len(v) > 0; v = k.output() {
				n := min(len(bytes.Join(v, nil)), size)
				if k.sent(n) {
					for c := k.takeLate(); c != nil; c = k.takeLate() {
						end(c)
					}
				}
			}
		}
	})
}

// drain2 lets the last words leave.
func drain2(k *conn) {
	for v := k.output(); len(v) > 0; v = k.output() {
		k.sent(len(bytes.Join(v, nil)))
	}
}
