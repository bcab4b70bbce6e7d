package iscsi_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// pattern is n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>9)*7 + seed
	}
	return b
}

// Every way in which data may go, and every size that is an edge of one. RFC 7143 sections 13.10 to 13.14.
func TestDataGoesEitherWay(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	seed := byte(0)
	for _, initialR2T := range []string{"Yes", "No"} {
		for _, immediate := range []string{"Yes", "No"} {
			for _, digests := range []string{"None", "CRC32C"} {
				name := fmt.Sprintf("InitialR2T=%s ImmediateData=%s digests %s", initialR2T, immediate, digests)
				p := ready(t, e, "InitialR2T="+initialR2T, "ImmediateData="+immediate, "HeaderDigest="+digests, "DataDigest="+digests,
					"FirstBurstLength=8192", "MaxBurstLength=65536", "MaxRecvDataSegmentLength=4096")
				if p.Keys["InitialR2T"] != initialR2T || p.Keys["ImmediateData"] != immediate || p.Keys["FirstBurstLength"] != "8192" {
					t.Fatalf("%s: agreed on %v", name, p.Keys)
				}
				for _, n := range []int{512, 4096, 8192, 8704, 65536, 73728, 262144} {
					for _, carried := range []int{0, 512, 8192} {
						if carried > n || carried > 0 && immediate == "No" {
							continue
						}
						seed++
						write(t, p, fmt.Sprintf("%s, %d bytes, %d of them carried", name, n, carried), 64, pattern(n, seed), carried, initialR2T == "No")
						r := p.Command(0, iscsitest.Read10(64, uint16(n/512)), iscsitest.Reads, uint32(n), nil)
						wantGood(t, name, r)
						if !bytes.Equal(r.Data, pattern(n, seed)) {
							t.Fatalf("%s: of %d bytes others are read than were written", name, n)
						}
						if want := (n + 4095) / 4096; r.DataIns != want {
							t.Errorf("%s: %d bytes in %d Data-Ins, want %d", name, n, r.DataIns, want)
						}
					}
				}
				p.Logout(name)
			}
		}
	}
}

// write writes data with some of it in the command, and what FirstBurstLength (8192) lets come unasked, if that was agreed on.
func write(t *testing.T, p *iscsitest.Peer, why string, lba uint32, data []byte, carried int, unasked bool) {
	t.Helper()
	c := p.SCSI(0, iscsitest.Write10(lba, uint16(len(data)/512)), iscsitest.Writes, uint32(len(data)))
	first := min(len(data), 8192)
	c.DataBytes = uint32(carried)
	c.Final = !unasked || first == carried
	b := p.PDU(c, data[:carried])
	if !c.Final {
		b = append(b, p.Burst(iscsi.DataOut{ITT: c.ITT, TTT: iscsi.NoTag, LUN: c.LUN, Offset: uint32(carried)}, data[carried:first], true)...)
	} else {
		first = carried
	}
	p.Send(b)
	r := p.Response(c, data)
	wantGood(t, why, r)
	if want := (len(data) - first + 65535) / 65536; r.R2Ts != want {
		t.Errorf("%s: %d R2Ts, want %d", why, r.R2Ts, want)
	}
	if int(r.ExpDataSN) != r.R2Ts {
		t.Errorf("%s: ExpDataSN %d after %d R2Ts", why, r.ExpDataSN, r.R2Ts)
	}
}

// F is set at every edge of MaxBurstLength, and at the end. RFC 7143 section 11.7.1.
func TestDataInEndsItsSequences(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "MaxBurstLength=8192", "MaxRecvDataSegmentLength=3072")
	c := p.SCSI(0, iscsitest.Read10(0, 40), iscsitest.Reads, 20480)
	p.Send(p.PDU(c, nil))
	for at := uint32(0); at < 20480; {
		d, _ := iscsi.DecodeDataIn(p.Want("data", iscsi.OpDataIn).BHS)
		at += d.DataBytes
		if final := at%8192 == 0 || at == 20480; d.Final != final || d.Ends != (at == 20480) {
			t.Errorf("at byte %d F is %v, S %v", at, d.Final, d.Ends)
		}
		if d.DataBytes > 3072 || d.Acks {
			t.Errorf("%d bytes of data, A %v", d.DataBytes, d.Acks)
		}
	}
}

// RFC 7143 section 11.4.5: what was expected against what the CDB moves; the smaller is moved.
func TestResiduals(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "FirstBurstLength=4096")
	over := func(n uint32) iscsi.Residual { return iscsi.Residual{Overflow: true, Count: n} }
	under := func(n uint32) iscsi.Residual { return iscsi.Residual{Underflow: true, Count: n} }
	was := pattern(8192, 9)
	for _, c := range []struct {
		name   string
		write  bool
		f      iscsitest.Flags
		blocks uint16
		edtl   uint32
		want   iscsi.Residual
		moved  int
	}{
		{"a read of as much", false, iscsitest.Reads, 4, 2048, iscsi.Residual{}, 2048},
		{"a read of less than expected", false, iscsitest.Reads, 4, 4096, under(2048), 2048},
		{"a read of more than expected", false, iscsitest.Reads, 8, 2048, over(2048), 2048},
		{"a read of nothing", false, iscsitest.Reads, 0, 2048, under(2048), 0},
		{"a write of as much", true, iscsitest.Writes, 4, 2048, iscsi.Residual{}, 2048},
		{"a write of less than expected", true, iscsitest.Writes, 4, 4096, under(2048), 2048},
		{"a write of less than expected, beyond the first burst", true, iscsitest.Writes, 4, 8192, under(6144), 2048},
		{"a write of more than expected", true, iscsitest.Writes, 8, 2048, over(2048), 2048},
		{"a write of nothing", true, iscsitest.Writes, 0, 2048, under(2048), 0},
	} {
		for _, carried := range []bool{false, true} {
			if c.f == iscsitest.Reads && carried {
				continue
			}
			name := fmt.Sprintf("%s, carried %v", c.name, carried)
			wantGood(t, "before", p.Command(0, iscsitest.Write10(0, 16), iscsitest.Writes, 8192, was))
			cdb := iscsitest.Read10(0, c.blocks)
			if c.write {
				cdb = iscsitest.Write10(0, c.blocks)
			}
			data := pattern(int(c.edtl), 55)
			q := p.SCSI(0, cdb, c.f, c.edtl)
			if carried {
				q.DataBytes = min(c.edtl, 4096)
			}
			p.Send(p.PDU(q, data[:q.DataBytes]))
			r := p.Response(q, data)
			if r.Status != iscsi.Good || r.Residual != c.want {
				t.Errorf("%s: %02Xh %06X, residual %+v, want %+v", name, r.Status, r.Code(), r.Residual, c.want)
			}
			if !c.write && (len(r.Data) != c.moved || !bytes.Equal(r.Data, was[:c.moved])) {
				t.Errorf("%s: %d bytes came, want %d", name, len(r.Data), c.moved)
			}
			if c.write {
				r := p.Command(0, iscsitest.Read10(0, 16), iscsitest.Reads, 8192, nil)
				want := append(bytes.Clone(data[:c.moved]), was[c.moved:]...)
				if !bytes.Equal(r.Data, want) {
					t.Errorf("%s: other blocks are written", name)
				}
			}
			p.Quiet(name)
		}
	}
}

// A command whose direction is not that of its flags, or that has none, ends without a word of complaint: the public suite sends some.
func TestDirectionsThatDoNotFit(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	r := p.Command(0, iscsitest.Read10(0, 1), iscsitest.Writes, 512, make([]byte, 512))
	if r.Status != iscsi.Good || len(r.Data) > 0 {
		t.Errorf("a READ flagged as a write: %02Xh %06X, %d bytes", r.Status, r.Code(), len(r.Data))
	}
	r = p.Command(0, iscsitest.Read10(0, 1), 0, 0, nil)
	if r.Status != iscsi.Good || len(r.Data) > 0 || !r.Overflow || r.Count != 512 {
		t.Errorf("a READ that expects nothing: %02Xh %06X, residual %+v", r.Status, r.Code(), r.Residual)
	}
	p.Quiet("after that")
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// Data that does not come as it was asked for never ends in a good status, nothing of it is written, and the connection stays.
// RFC 7143 sections 11.7 and 11.8, 7.8 "Digest Errors".
func TestDataOutOutOfOrder(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "MaxBurstLength=8192", "FirstBurstLength=4096")
	was := pattern(16384, 3)
	write := func() { wantGood(t, "before", p.Command(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384, was)) }
	type piece struct {
		sn, at uint32
		n      int
		final  bool
	}
	for _, c := range []struct {
		name   string
		pieces []piece // of the first R2T, for bytes 0 to 8192
	}{
		{"DataSN begins with 1", []piece{{1, 0, 8192, true}}},
		{"DataSN leaves one out", []piece{{0, 0, 4096, false}, {2, 4096, 4096, true}}},
		{"DataSN twice", []piece{{0, 0, 4096, false}, {0, 4096, 4096, true}}},
		{"a gap", []piece{{0, 0, 2048, false}, {1, 4096, 4096, true}}},
		{"the same place twice", []piece{{0, 0, 4096, false}, {1, 0, 4096, true}}},
		{"the second half first", []piece{{0, 4096, 4096, false}, {1, 0, 4096, true}}},
		{"beyond the R2T", []piece{{0, 0, 8704, true}}},
		{"beyond the R2T by the second", []piece{{0, 0, 4096, false}, {1, 4096, 8192, true}}},
		{"an offset far beyond", []piece{{0, 1 << 31, 512, true}}},
		{"F too early", []piece{{0, 0, 4096, true}}},
		{"no data, and F", []piece{{0, 0, 0, true}}},
	} {
		write()
		q := p.SCSI(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384)
		p.Send(p.PDU(q, nil))
		r2t := p.WantR2T(c.name)
		if r2t.Offset != 0 || r2t.Bytes != 8192 {
			t.Fatalf("an R2T for %d bytes at %d", r2t.Bytes, r2t.Offset)
		}
		for _, s := range c.pieces {
			d := iscsi.DataOut{ITT: q.ITT, TTT: r2t.TTT, LUN: q.LUN, DataSN: s.sn, Offset: s.at, DataBytes: uint32(s.n), Final: s.final}
			p.Send(p.PDU(d, make([]byte, s.n)))
		}
		wantSense(t, c.name, p.Response(q, nil), 0x0B4700)
		p.Quiet(c.name)
		if r := p.Command(0, iscsitest.Read10(0, 32), iscsitest.Reads, 16384, nil); !bytes.Equal(r.Data, was) {
			t.Errorf("%s: something was written", c.name)
		}
	}
	// F that does not come with the last byte: the next R2T would come without it.
	q := p.SCSI(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384)
	p.Send(p.PDU(q, nil))
	r2t := p.WantR2T("F missing")
	d := iscsi.DataOut{ITT: q.ITT, TTT: r2t.TTT, LUN: q.LUN, DataBytes: 8192}
	p.Send(p.PDU(d, make([]byte, 8192)))
	d.DataSN, d.Offset, d.DataBytes, d.Final = 1, 8192, 0, true
	p.Send(p.PDU(d, nil))
	wantSense(t, "F missing", p.Response(q, nil), 0x0B4700)
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// R2Ts of one command follow each other: fresh tags, numbers from 0, offsets without a gap; one is open at a time. RFC 7143 section 11.8.
func TestR2TsFollowEachOther(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "MaxBurstLength=8192", "FirstBurstLength=4096")
	data := pattern(40960, 1)
	seen := map[iscsi.TTT]bool{}
	for range 3 {
		q := p.SCSI(0, iscsitest.Write10(0, 80), iscsitest.Writes, 40960)
		q.DataBytes = 4096
		p.Send(p.PDU(q, data[:4096]))
		for sn, at := uint32(0), uint32(4096); at < 40960; sn++ {
			r := p.WantR2T("the next part")
			if r.R2TSN != sn || r.Offset != at || r.Bytes != min(8192, 40960-at) || r.LUN != q.LUN || r.ITT != q.ITT {
				t.Fatalf("R2T %+v, want number %d at %d", r, sn, at)
			}
			if sn == 0 && seen[r.TTT] {
				t.Error("the tag of an earlier command")
			}
			seen[r.TTT] = true
			p.Quiet("nothing more is asked for before that has come")
			at += r.Bytes
			p.Solicited(r, data[r.Offset:][:r.Bytes])
		}
		r := p.Response(q, nil)
		wantGood(t, "the write", r)
		if r.ExpDataSN != 5 {
			t.Errorf("ExpDataSN %d, want 5", r.ExpDataSN)
		}
	}
}

// A wrong data digest is told by a Reject and by the command's sense, and the connection stays. RFC 7143 section 7.8.
func TestDataDigestWrong(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "DataDigest=CRC32C", "FirstBurstLength=8192", "MaxBurstLength=8192")
	was := pattern(16384, 3)
	wantGood(t, "before", p.Command(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384, was))
	spoil := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	good := func(why string) {
		t.Helper()
		if r := p.Command(0, iscsitest.Read10(0, 32), iscsitest.Reads, 16384, nil); r.Status != iscsi.Good || !bytes.Equal(r.Data, was) {
			t.Errorf("%s: something was written", why)
		}
	}

	q := p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096)
	q.DataBytes = 4096
	b := spoil(p.PDU(q, make([]byte, 4096)))
	p.Send(b)
	p.WantReject("immediate data", iscsi.RejectDataDigest, b)
	wantSense(t, "immediate data", p.Response(q, nil), 0x0B4705)
	good("immediate data")

	q = p.SCSI(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384)
	q.DataBytes, q.Final = 4096, false
	d := iscsi.DataOut{ITT: q.ITT, TTT: iscsi.NoTag, LUN: q.LUN, Offset: 4096, DataBytes: 4096, Final: true}
	b = spoil(p.PDU(d, make([]byte, 4096)))
	p.Send(append(p.PDU(q, make([]byte, 4096)), b...))
	p.WantReject("unsolicited data", iscsi.RejectDataDigest, b)
	wantSense(t, "unsolicited data", p.Response(q, nil), 0x0B4705)
	good("unsolicited data")

	q = p.SCSI(0, iscsitest.Write10(0, 32), iscsitest.Writes, 16384)
	p.Send(p.PDU(q, nil))
	r := p.WantR2T("a write")
	d = iscsi.DataOut{ITT: q.ITT, TTT: r.TTT, LUN: q.LUN, DataBytes: 4096}
	b = spoil(p.PDU(d, make([]byte, 4096)))
	d.DataSN, d.Offset, d.Final = 1, 4096, true
	p.Send(append(bytes.Clone(b), p.PDU(d, make([]byte, 4096))...))
	p.WantReject("solicited data", iscsi.RejectDataDigest, b)
	wantSense(t, "solicited data", p.Response(q, nil), 0x0B4705)
	good("solicited data")

	ping := iscsi.NOPOut{Request: p.Request(), ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: 8}
	b = spoil(p.PDU(ping, make([]byte, 8)))
	p.Send(b)
	p.WantReject("ping data", iscsi.RejectDataDigest, b)
	good("ping data")
}

// Of a command that is refused all data is taken that was sent with it, and the connection stays.
func TestDataOfRefusedCommands(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "FirstBurstLength=65536")
	for _, c := range []struct {
		name string
		lun  int
		cdb  []byte
		code int
	}{
		{"no such unit", 5, iscsitest.Write10(0, 128), 0x052500},
		{"past the end", 0, iscsitest.Write10(1<<30, 128), 0x052100},
		{"no such command", 0, []byte{0xC3}, 0x052000},
	} {
		data := make([]byte, 65536)
		q := p.SCSI(c.lun, c.cdb, iscsitest.Writes, 65536)
		q.DataBytes, q.Final = 8192, false
		b := p.PDU(q, data[:8192])
		b = append(b, p.Burst(iscsi.DataOut{ITT: q.ITT, TTT: iscsi.NoTag, LUN: q.LUN, Offset: 8192}, data[8192:], true)...)
		p.Send(b)
		wantSense(t, c.name, p.Response(q, nil), c.code)
		p.Quiet(c.name)
		// And without data: nothing is asked for.
		q = p.SCSI(c.lun, c.cdb, iscsitest.Writes, 65536)
		p.Send(p.PDU(q, nil))
		wantSense(t, c.name+", without data", p.Response(q, nil), c.code)
	}
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// Unsolicited data beyond FirstBurstLength, or out of order, ends its command so. Data where none was agreed on is rejected.
func TestUnsolicitedDataWrong(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "FirstBurstLength=8192")
	for _, c := range []struct {
		name string
		d    iscsi.DataOut
		n    int
	}{
		{"beyond FirstBurstLength", iscsi.DataOut{Offset: 4096, Final: true}, 8192},
		{"a gap", iscsi.DataOut{Offset: 4608, Final: true}, 512},
		{"DataSN 1", iscsi.DataOut{Offset: 4096, DataSN: 1, Final: true}, 4096},
	} {
		q := p.SCSI(0, iscsitest.Write10(0, 64), iscsitest.Writes, 32768)
		q.DataBytes, q.Final = 4096, false
		c.d.ITT, c.d.TTT, c.d.LUN, c.d.DataBytes = q.ITT, iscsi.NoTag, q.LUN, uint32(c.n)
		p.Send(append(p.PDU(q, make([]byte, 4096)), p.PDU(c.d, make([]byte, c.n))...))
		wantSense(t, c.name, p.Response(q, nil), 0x0B4700)
		p.Quiet(c.name)
	}
	// Less than FirstBurstLength is fine: the rest is asked for.
	data := pattern(32768, 5)
	q := p.SCSI(0, iscsitest.Write10(0, 64), iscsitest.Writes, 32768)
	q.Final = false
	d := iscsi.DataOut{ITT: q.ITT, TTT: iscsi.NoTag, LUN: q.LUN, DataBytes: 512, Final: true}
	p.Send(append(p.PDU(q, nil), p.PDU(d, data[:512])...))
	if r := p.Response(q, data); r.Status != iscsi.Good || r.R2Ts != 1 {
		t.Errorf("little unsolicited data: %02Xh, %d R2Ts", r.Status, r.R2Ts)
	}
	if r := p.Command(0, iscsitest.Read10(0, 64), iscsitest.Reads, 32768, nil); !bytes.Equal(r.Data, data) {
		t.Error("other data was written")
	}

	p = ready(t, e, "InitialR2T=Yes", "ImmediateData=No")
	q = p.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
	q.DataBytes = 512
	b := p.PDU(q, make([]byte, 512))
	p.Send(b)
	p.WantReject("immediate data that was not agreed on", iscsi.RejectProtocol, b)
	q = p.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
	q.Final = false
	b = p.PDU(q, nil)
	p.Send(b)
	p.WantReject("unsolicited data that was not agreed on", iscsi.RejectProtocol, b)
	p.Quiet("after that")
}

// Unsolicited data that was not announced is rejected: behind the last of the first burst, or beside an R2T. RFC 7143 section 11.7.4.
func TestUnsolicitedDataUnannounced(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "FirstBurstLength=8192")
	q := p.SCSI(0, iscsitest.Write10(0, 64), iscsitest.Writes, 32768)
	q.DataBytes = 4096
	p.Send(p.PDU(q, make([]byte, 4096)))
	r := p.WantR2T("a write whose first burst is over")
	d := iscsi.DataOut{ITT: q.ITT, TTT: iscsi.NoTag, LUN: q.LUN, Offset: 4096, DataBytes: 4096, Final: true}
	b := p.PDU(d, make([]byte, 4096))
	p.Send(b)
	p.WantReject("unsolicited data beside an R2T", iscsi.RejectProtocol, b)
	p.Solicited(r, make([]byte, 32768)[r.Offset:][:r.Bytes])
	wantGood(t, "the write", p.Response(q, make([]byte, 32768)))
	p.Send(b)
	p.Quiet("data of a command that is answered, or never was")
	d.TTT = r.TTT
	p.Send(p.PDU(d, make([]byte, 4096)))
	p.Quiet("data for the R2T of a command that is answered")
}

// The device's memory is lent before data is asked for: with little of it many large writes go on, one after another.
func TestMemoryIsBounded(t *testing.T) {
	const n = 1 << 20
	e := iscsitest.Start(t, iscsitest.Options{MemoryBytes: 8 << 20, BlockSize: 4096})
	p := ready(t, e)
	data := pattern(n, 77)
	var open []iscsi.SCSICommand
	for i := range 12 {
		q := p.SCSI(0, iscsitest.Write10(uint32(i)*256, 256), iscsitest.Writes, n)
		p.Send(p.PDU(q, nil))
		open = append(open, q)
	}
	left := len(open)
	for left > 0 {
		switch pdu := p.Recv("what comes next"); pdu.Opcode {
		case iscsi.OpR2T:
			r, _ := iscsi.DecodeR2T(pdu.BHS)
			p.Solicited(r, data[r.Offset:][:r.Bytes])
		case iscsi.OpSCSIResponse:
			if r, _ := iscsi.DecodeSCSIResponse(pdu.BHS); r.Status != iscsi.Good {
				t.Fatalf("a write ends with %02Xh % x", r.Status, pdu.Data)
			}
			left--
		default:
			t.Fatalf("%v", pdu.Opcode)
		}
	}
	for i := range open {
		if r := p.Command(0, iscsitest.Read10(uint32(i)*256, 256), iscsitest.Reads, n, nil); !bytes.Equal(r.Data, data) {
			t.Fatalf("write %d is not there", i)
		}
	}
}

// Lengths that are agreed on may be as small as 512, and no multiple of anything.
func TestOddLengths(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	for _, digests := range []string{"None", "CRC32C"} {
		for _, c := range []struct{ first, most, recv string }{
			{"512", "512", "512"}, {"513", "515", "513"}, {"1000", "1001", "514"}, {"700", "65537", "16777215"}, {"16777215", "16777215", "16777215"},
		} {
			name := fmt.Sprintf("%v digests %s", c, digests)
			p := ready(t, e, "FirstBurstLength="+c.first, "MaxBurstLength="+c.most, "MaxRecvDataSegmentLength="+c.recv, "HeaderDigest="+digests, "DataDigest="+digests)
			first, most := p.Number("FirstBurstLength", 0), p.Number("MaxBurstLength", 0)
			for _, n := range []int{512, 2048, 20480} {
				data := pattern(n, byte(n))
				q := p.SCSI(0, iscsitest.Write10(8, uint16(n/512)), iscsitest.Writes, uint32(n))
				unasked := min(int(first), n)
				q.Final, q.DataBytes = false, uint32(min(unasked, 3))
				b := p.PDU(q, data[:q.DataBytes])
				b = append(b, p.Burst(iscsi.DataOut{ITT: q.ITT, TTT: iscsi.NoTag, LUN: q.LUN, Offset: q.DataBytes}, data[q.DataBytes:unasked], true)...)
				p.Send(b)
				r := p.Response(q, data)
				wantGood(t, name, r)
				if want := (n - unasked + int(most) - 1) / int(most); r.R2Ts != want {
					t.Errorf("%s: %d bytes in %d R2Ts, want %d", name, n, r.R2Ts, want)
				}
				r = p.Command(0, iscsitest.Read10(8, uint16(n/512)), iscsitest.Reads, uint32(n), nil)
				wantGood(t, name, r)
				if !bytes.Equal(r.Data, data) {
					t.Errorf("%s: of %d bytes others are read than were written", name, n)
				}
			}
			p.Logout(name)
		}
	}
}

// An initiator may say again how much it takes in one PDU. RFC 7143 section 13.12.
func TestMaxRecvDataSegmentLengthSaidAgain(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	for _, c := range []struct{ most, pdus int }{{262144, 1}, {512, 64}, {4096, 8}, {32768, 1}} {
		p.Ask("how much it takes", fmt.Sprintf("MaxRecvDataSegmentLength=%d", c.most))
		if r := p.Command(0, iscsitest.Read10(0, 64), iscsitest.Reads, 32768, nil); r.Status != iscsi.Good || r.DataIns != c.pdus {
			t.Errorf("32 KiB to one that takes %d bytes: %d PDUs, want %d", c.most, r.DataIns, c.pdus)
		}
	}
}
