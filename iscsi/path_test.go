package iscsi_test

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// TestTheWholePathAllocatesAndWaitsForNothing runs commands from the socket over the target to a device of memory and back, several at once, and lets no
// reactor allocate once, or wait for a lock. What the peer does, counts for nothing: it is on no reactor.
func TestTheWholePathAllocatesAndWaitsForNothing(t *testing.T) {
	for _, mode := range []string{"None", "CRC32C"} {
		e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, MemoryBytes: 64 << 20, BlockSize: 4096})
		var peers []*iscsitest.Peer
		for i := range 2 {
			p := iscsitest.Dial(t, e.Addr)
			p.ISID[5] += byte(i)
			p.Login("HeaderDigest="+mode, "DataDigest="+mode)
			p.Unit(0)
			peers = append(peers, p)
		}
		for _, c := range []struct {
			why    string
			cdb    []byte
			flags  iscsitest.Flags
			bytes  int
			within bool // the data comes in the command
		}{
			{"reads", iscsitest.Read10(8, 1), iscsitest.Reads, 4096, false},
			{"large reads", iscsitest.Read10(8, 66), iscsitest.Reads, 264 << 10, false}, // two Data-Ins each
			{"writes with their data", iscsitest.Write10(8, 2), iscsitest.Writes, 8192, true},
			{"writes by R2T", iscsitest.Write10(8, 24), iscsitest.Writes, 96 << 10, false},
			{"flushes", []byte{0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, false},
			{"unit ready", make([]byte, 6), 0, 0, false},
		} {
			t.Run(c.why+", digests "+mode, func(t *testing.T) {
				data := pattern(c.bytes, 3)
				run := func() {
					for _, p := range peers {
						for range 4 {
							pipeline(t, p, c.cdb, c.flags, data, c.within, 16)
						}
					}
				}
				run() // what grows to a high-water mark grows here
				for where, times := range bdevtest.AlwaysOnReactors(run) {
					t.Errorf("%d allocations in 128 commands:\n%s", times, where)
				}
				for where, times := range bdevtest.WaitsOnReactors(run) {
					t.Errorf("a reactor waited %d times in 128 commands:\n%s", times, where)
				}
			})
		}
	}
}

// pipeline sends n commands at once, and takes what comes until all have ended well.
func pipeline(t *testing.T, p *iscsitest.Peer, cdb []byte, f iscsitest.Flags, data []byte, within bool, n int) {
	t.Helper()
	var out []byte
	for range n {
		c := p.SCSI(0, cdb, f, uint32(len(data)))
		if within {
			c.DataBytes = uint32(len(data))
			out = append(out, p.PDU(c, data)...)
			continue
		}
		out = append(out, p.PDU(c, nil)...)
	}
	p.Send(out)
	for n > 0 {
		pdu := p.Recv("what comes next")
		status := iscsi.Good
		switch pdu.Opcode {
		case iscsi.OpR2T:
			q, _ := iscsi.DecodeR2T(pdu.BHS)
			p.Solicited(q, data[q.Offset:][:q.Bytes])
			continue
		case iscsi.OpDataIn:
			d, _ := iscsi.DecodeDataIn(pdu.BHS)
			if !d.Ends {
				continue
			}
			status = d.Status
		case iscsi.OpSCSIResponse:
			r, _ := iscsi.DecodeSCSIResponse(pdu.BHS)
			status = r.Status
		default:
			t.Fatalf("%v", pdu.Opcode)
		}
		if status != iscsi.Good {
			t.Fatalf("a command ended with %02Xh, % x", status, pdu.Data)
		}
		n--
	}
}
