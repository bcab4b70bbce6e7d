package iscsi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A twin of Conn, slow and obvious: it has the whole stream.
type streamTwin struct {
	limit   uint32
	digests Digests
}

// read tells what is in a stream, as far as it goes.
func (w streamTwin) read(stream []byte) (told []string) {
	take := func(n int) []byte {
		if n > len(stream) {
			return nil
		}
		b := stream[:n]
		stream = stream[n:]
		return b
	}
	for {
		if len(stream) < BHSBytes {
			return told
		}
		ahs := int(stream[4]) * 4
		header := take(BHSBytes + ahs)
		if header == nil {
			return told
		}
		if w.digests&HeaderDigests != 0 {
			sum := take(4)
			if sum == nil {
				return told
			}
			if !bytes.Equal(sum, AppendDigest(bytes.Clone(header), 0, HeaderDigests)[len(header):]) {
				return append(told, "fault: wrong header digest")
			}
		}
		n := int(header[5])<<16 | int(header[6])<<8 | int(header[7])
		if n > int(w.limit) {
			return append(told, "fault: data segment longer than MaxRecvDataSegmentLength")
		}
		told = append(told, fmt.Sprintf("%v % x, AHS % x", Opcode(header[0]&0x3F), header[:BHSBytes], header[BHSBytes:]))
		if n == 0 {
			continue
		}
		padded := (n + 3) / 4 * 4
		data := take(padded)
		if data == nil {
			return told
		}
		ok := true
		if w.digests&DataDigests != 0 {
			sum := take(4)
			if sum == nil {
				return told
			}
			ok = bytes.Equal(sum, AppendDigest(bytes.Clone(data), 0, HeaderDigests)[padded:])
		}
		told = append(told, fmt.Sprintf("data %x, right %v", data[:n], ok))
	}
}

// readConn tells the same of what a Conn makes of the stream: received in pieces of cut bytes, its data placed in pieces of place bytes.
func readConn(t testing.TB, buf []byte, limit uint32, d Digests, stream []byte, cut, place func() int) (told []string) {
	var c Conn
	c.Init(buf)
	c.Limits(limit)
	c.SetDigests(d)
	var data []byte
	at := 0
	put := func() {
		n := min(max(place(), 1), len(data)-at)
		c.Place(data[at : at+n : at+n])
		at += n
	}
	for {
		switch a := c.Next(); a {
		case ArrivedNothing:
			if len(stream) == 0 {
				return told
			}
			room := c.Room()
			if len(room) == 0 {
				t.Fatal("nothing arrived, and there is no room to receive more")
			}
			n := copy(room[:min(len(room), max(cut(), 1))], stream)
			stream = stream[n:]
			c.Feed(n)
		case ArrivedPDU:
			told = append(told, fmt.Sprintf("%v % x, AHS % x", c.Opcode, c.BHS, c.AHS))
			if c.Awaiting() != (c.DataBytes > 0) {
				t.Fatalf("%d bytes of data, a place is asked for: %v", c.DataBytes, c.Awaiting())
			}
			if c.DataBytes > 0 {
				data, at = make([]byte, c.DataBytes), 0
				put()
			}
		case ArrivedDataMore:
			if !c.Awaiting() || at == len(data) {
				t.Fatal("a place is asked for that is not needed")
			}
			put()
		case ArrivedDataEnd:
			if at != len(data) || c.Awaiting() {
				t.Fatalf("the data ends after %d bytes of %d", at, len(data))
			}
			told = append(told, fmt.Sprintf("data %x, right %v", data, c.DigestOK))
		case ArrivedFault:
			if c.Next() != ArrivedFault {
				t.Fatal("a fault is over")
			}
			return append(told, "fault: "+c.Fault.Error())
		}
	}
}

func always(n int) func() int { return func() int { return n } }

// testStream is one PDU of each kind with the digests, data of every length modulo 4, and one with much.
func testStream(d Digests) (b []byte) {
	for _, g := range goldenPDUs {
		g.digests = d
		b = g.appendTo(b)
	}
	for _, n := range []int{1, 2, 3, 4, 5, 40 << 10, 3} {
		start := len(b)
		b = AppendDigest(DataOut{ITT: 1, TTT: 2, DataBytes: uint32(n)}.AppendTo(b), start, d)
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i * 7)
		}
		b = AppendDataEnd(append(b, data...), uint32(n), DataCRC(0, data), d)
	}
	start := len(b)
	b = append(SCSICommand{Final: true, ITT: 1, AHSBytes: AHSBytesMax}.AppendTo(b), bytes.Repeat([]byte{0, 13, 1, 0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'}, 64)[:AHSBytesMax]...)
	b = AppendDigest(b, start, d)
	start = len(b)
	return AppendDigest(NOPOut{ITT: 1, TTT: NoTag}.AppendTo(b), start, d)
}

func TestConnCutsTheStreamWhereverItIsCut(t *testing.T) {
	const limit = 40 << 10
	for d := range Digests(4) {
		stream := testStream(d)
		want := streamTwin{limit, d}.read(stream)
		if len(want) < len(goldenPDUs)+8 {
			t.Fatalf("digests %d: the twin finds no more than %d arrivals", d, len(want))
		}
		for _, buf := range []int{HeaderBytesMax, 32 << 10} {
			for _, cut := range []int{1, 3, 47, 48, 4096, 1 << 20} {
				for _, place := range []int{7, 512, 20 << 10, 1 << 20} {
					got := readConn(t, make([]byte, buf), limit, d, stream, always(cut), always(place))
					if !slices.Equal(got, want) {
						t.Fatalf("digests %d, buffer %d, cut at %d, places of %d:\n%s", d, buf, cut, place, firstDifference(got, want))
					}
				}
			}
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return fmt.Sprintf("arrival %d:\n got %.300s\nwant %.300s", i, g, w)
		}
	}
	return "no difference"
}

// RFC 7143 section 7.8: a header that is not as it was sent ends the connection, whichever byte it is.
func TestConnHeaderDigestWrong(t *testing.T) {
	good := AppendDigest(SCSICommand{Final: true, AHSBytes: 8}.AppendTo(nil), 0, 0)
	good = AppendDigest(AppendAHS(good, AHSBidirectional, []byte{0, 0, 2, 0}), 0, HeaderDigests)
	good = NOPOut{}.AppendTo(good) // what would follow is not looked at
	for at := range BHSBytes + 8 + DigestBytes {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		if at == 4 {
			b = append(b, make([]byte, AHSBytesMax)...) // the header became longer: it must arrive whole
		}
		got := readConn(t, make([]byte, HeaderBytesMax), DataBytesMax, HeaderDigests, b, always(9), always(1))
		if len(got) != 1 || got[0] != "fault: wrong header digest" {
			t.Errorf("byte %d flipped: %v", at, got)
		}
	}
}

func TestConnDataTooLong(t *testing.T) {
	var c Conn
	c.Init(make([]byte, HeaderBytesMax))
	b := DataOut{ITT: 1, DataBytes: 513}.AppendTo(nil)
	feed(t, &c, b)
	if a := c.Next(); a != ArrivedFault || c.Fault != FaultDataTooLong {
		t.Errorf("data before there are limits: %v, %v", a, c.Fault)
	}
	wantBytes(t, "its header", c.BHS, b)
	c.Init(make([]byte, HeaderBytesMax))
	c.Limits(512)
	feed(t, &c, DataOut{ITT: 1, DataBytes: 512}.AppendTo(nil))
	if a := c.Next(); a != ArrivedPDU || c.DataBytes != 512 {
		t.Errorf("data of the limit: %v", a)
	}
	c.Discard()
	feed(t, &c, append(make([]byte, 512), b...))
	if a := c.Next(); a != ArrivedDataEnd {
		t.Errorf("its end: %v", a)
	}
	if a := c.Next(); a != ArrivedFault || c.Fault != FaultDataTooLong {
		t.Errorf("one byte more: %v, %v", a, c.Fault)
	}
}

func feed(t testing.TB, c *Conn, b []byte) {
	t.Helper()
	if n := copy(c.Room(), b); n != len(b) {
		t.Fatalf("room for %d bytes of %d", n, len(b))
	}
	c.Feed(len(b))
}

// A wrong data digest is the owner's to judge; the stream goes on. Padding may be anything, but its digest must be right.
func TestConnDataDigestWrong(t *testing.T) {
	pdu := func(data, padding string, flip int) []byte {
		b := DataOut{ITT: 1, DataBytes: uint32(len(data))}.AppendTo(nil)
		segment := append([]byte(data), padding...)
		sum := AppendDigest(bytes.Clone(segment), 0, HeaderDigests)[len(segment):]
		b = append(append(b, segment...), sum...)
		if flip >= 0 {
			b[BHSBytes+flip] ^= 1
		}
		return b
	}
	for _, c := range []struct {
		name          string
		data, padding string
		flip          int
		right         bool
	}{
		{"right", "data", "", -1, true},
		{"padding of zeros", "five5", "\x00\x00\x00", -1, true},
		{"padding of something else", "five5", "xyz", -1, true},
		{"a data byte", "five5", "\x00\x00\x00", 4, false},
		{"a padding byte", "five5", "\x00\x00\x00", 7, false},
		{"a digest byte", "five5", "\x00\x00\x00", 8, false},
	} {
		stream := append(pdu(c.data, c.padding, c.flip), NOPOut{ITT: 2, TTT: NoTag}.AppendTo(nil)...)
		for _, cut := range []int{1, 1000} {
			for _, discard := range []bool{false, true} {
				var conn Conn
				conn.Init(make([]byte, HeaderBytesMax))
				conn.Limits(8)
				conn.SetDigests(DataDigests)
				var got []Arrival
				dest := make([]byte, len(c.data))
				for rest := stream; ; {
					a := conn.Next()
					if a == ArrivedNothing {
						if len(rest) == 0 {
							break
						}
						n := copy(conn.Room()[:min(len(conn.Room()), cut)], rest)
						conn.Feed(n)
						rest = rest[n:]
						continue
					}
					got = append(got, a)
					switch {
					case !conn.Awaiting():
					case discard:
						conn.Discard()
					default:
						conn.Place(dest)
					}
					if a == ArrivedDataEnd {
						if conn.DigestOK != c.right {
							t.Errorf("%s, cut at %d: right %v", c.name, cut, conn.DigestOK)
						}
						if conn.BHS[0] != byte(OpDataOut) {
							t.Errorf("%s, cut at %d: the header is gone when its data has arrived", c.name, cut)
						}
					}
				}
				if !slices.Equal(got, []Arrival{ArrivedPDU, ArrivedDataEnd, ArrivedPDU}) || conn.Opcode != OpNOPOut {
					t.Errorf("%s, cut at %d: %v", c.name, cut, got)
				}
				if !discard && c.flip != 4 && string(dest) != c.data {
					t.Errorf("%s: the data is %q", c.name, dest)
				}
			}
		}
	}
}

// Much data goes from the socket to its place, and what is little through the buffer.
func TestConnReceivesMuchDataInItsPlace(t *testing.T) {
	const n = 64 << 10
	var c Conn
	c.Init(make([]byte, HeaderBytesMax))
	c.Limits(n)
	feed(t, &c, append(DataOut{ITT: 1, DataBytes: n}.AppendTo(nil), "abc"...))
	if c.Next() != ArrivedPDU {
		t.Fatal("no PDU")
	}
	dest := make([]byte, n)
	c.Place(dest)
	if a := c.Next(); a != ArrivedNothing || string(dest[:3]) != "abc" {
		t.Fatalf("%v; what was in the buffer: %q", a, dest[:3])
	}
	room := c.Room()
	if len(room) != n-3 || &room[0] != &dest[3] {
		t.Fatal("the data is not received in its place")
	}
	c.Feed(n - 3 - directBytesMin + 1) // what is still to come is less than a receive of its own is worth
	if a := c.Next(); a != ArrivedNothing {
		t.Fatal(a)
	}
	if room = c.Room(); &room[0] == &dest[n-directBytesMin+1] {
		t.Error("a little data is received in its place")
	}
}

// Digests begin with the PDU after the last of the login, however much of that has been received.
func TestDigestsBeginWithTheNextPDU(t *testing.T) {
	login := LoginRequest{DataBytes: 5}.AppendTo(nil)
	login = AppendDataEnd(append(login, "key=v"...), 5, 0, 0)
	for d := range Digests(4) {
		stream := AppendDigest(NOPOut{ITT: 7, DataBytes: 3}.AppendTo(nil), 0, d)
		stream = AppendDataEnd(append(stream, "abc"...), 3, DataCRC(0, []byte("abc")), d)
		for cut := range len(stream) {
			var c Conn
			c.Init(make([]byte, HeaderBytesMax))
			c.Limits(8192)
			feed(t, &c, append(bytes.Clone(login), stream[:cut]...))
			if c.Next() != ArrivedPDU || c.Between() {
				t.Fatal("no login")
			}
			c.Discard()
			if a := c.Next(); a != ArrivedDataEnd || !c.Between() || c.Unread() != cut {
				t.Fatalf("%v, %d unread", a, c.Unread())
			}
			c.Limits(1 << 20)
			c.SetDigests(d)
			if c.Digests() != d {
				t.Error("other digests")
			}
			var got []Arrival
			dest := make([]byte, 3)
			for rest := stream[cut:]; ; {
				a := c.Next()
				if a == ArrivedNothing {
					if len(rest) == 0 {
						break
					}
					feed(t, &c, rest)
					rest = nil
					continue
				}
				if got = append(got, a); c.Awaiting() {
					c.Place(dest)
				}
			}
			if !slices.Equal(got, []Arrival{ArrivedPDU, ArrivedDataEnd}) || !c.DigestOK || string(dest) != "abc" {
				t.Errorf("digests %d, cut at %d: %v, %q", d, cut, got, dest)
			}
		}
	}
}

// FuzzConn reads a stream, cut anywhere and placed anywhere, and finds in it what its twin finds.
func FuzzConn(f *testing.F) {
	for d := range Digests(4) {
		var all []byte
		for _, g := range goldenPDUs {
			g.digests = d
			all = g.appendTo(all)
		}
		f.Add(all, uint8(d), uint16(8192), uint64(1))
		f.Add(all[:len(all)-5], uint8(d), uint16(4), uint64(2))
	}
	f.Add(append(SCSICommand{Final: true, AHSBytes: AHSBytesMax}.AppendTo(nil), make([]byte, AHSBytesMax)...), uint8(0), uint16(0), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, digests uint8, limit uint16, seed uint64) {
		d := Digests(digests & 3)
		want := streamTwin{uint32(limit), d}.read(stream)
		rnd := rand.New(rand.NewPCG(seed, 0))
		some := func() int { return 1 + rnd.IntN(1<<rnd.IntN(12)) }
		got := readConn(t, make([]byte, HeaderBytesMax+rnd.IntN(512)), uint32(limit), d, stream, some, some)
		if !slices.Equal(got, want) {
			t.Fatal(firstDifference(got, want))
		}
	})
}

func TestConnAllocatesNothing(t *testing.T) {
	const n = 20 << 10
	data := make([]byte, n)
	var stream []byte
	for _, size := range []uint32{512, n} {
		start := len(stream)
		stream = AppendDigest(DataOut{ITT: 1, TTT: 2, DataBytes: size}.AppendTo(stream), start, bothDigests)
		stream = AppendDataEnd(append(stream, data[:size]...), size, DataCRC(0, data[:size]), bothDigests)
	}
	var c Conn
	c.Init(make([]byte, 8<<10))
	c.Limits(n)
	c.SetDigests(bothDigests)
	dest := make([]byte, n)
	allocs := testing.AllocsPerRun(100, func() {
		ends := 0
		for rest := stream; ; {
			switch c.Next() {
			case ArrivedNothing:
				if len(rest) == 0 {
					if ends != 2 {
						t.Errorf("%d PDUs", ends)
					}
					return
				}
				k := copy(c.Room(), rest)
				c.Feed(k)
				rest = rest[k:]
			case ArrivedPDU:
				c.Place(dest[:c.DataBytes])
			case ArrivedDataEnd:
				if ends++; !c.DigestOK {
					t.Error("wrong digest")
				}
			case ArrivedFault:
				t.Fatal(c.Fault)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
