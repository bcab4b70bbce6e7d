package iscsi

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// Here is a test for a rule of the standard, named by it.

// TestTableOfReservations is SPC-4 table 65 and SBC-3 table 13, "Commands that are allowed in the presence of various reservations": of each command
// that is served, whether one may send it whom a reservation keeps from writing, and whom one keeps from reading too.
func TestTableOfReservations(t *testing.T) {
	const (
		always = "always"
		reads  = "allowed under write exclusive"
		writes = "conflicts"
	)
	want := map[string]string{
		"TEST UNIT READY": always, "REQUEST SENSE": always, "INQUIRY": always, "READ CAPACITY(10)": always, "READ CAPACITY(16)": always,
		"REPORT LUNS": always, "REPORT TARGET PORT GROUPS": always,
		"RESERVE(6)": always, "RESERVE(10)": always, "RELEASE(6)": always, "RELEASE(10)": always, // where somebody is registered they conflict by themselves
		"PERSISTENT RESERVE IN, READ KEYS": always, "PERSISTENT RESERVE IN, READ RESERVATION": always,
		"PERSISTENT RESERVE IN, REPORT CAPABILITIES": always, "PERSISTENT RESERVE IN, READ FULL STATUS": always,
		"PERSISTENT RESERVE OUT, REGISTER": always, "PERSISTENT RESERVE OUT, RESERVE": always, // the state itself says: SPC-4 table 66
		"PERSISTENT RESERVE OUT, RELEASE": always, "PERSISTENT RESERVE OUT, CLEAR": always, "PERSISTENT RESERVE OUT, PREEMPT": always,
		"PERSISTENT RESERVE OUT, PREEMPT AND ABORT": always, "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY": always,
		"PERSISTENT RESERVE OUT, REGISTER AND MOVE": always,
		"RECEIVE COPY STATUS(LID1)":                 always, "RECEIVE COPY OPERATING PARAMETERS": always,

		"MODE SENSE(6)": reads, "MODE SENSE(10)": reads, "REPORT SUPPORTED OPERATION CODES": reads, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS": reads,
		"READ(6)": reads, "READ(10)": reads, "READ(12)": reads, "READ(16)": reads, "VERIFY(10)": reads, "VERIFY(12)": reads, "VERIFY(16)": reads,
		"PRE-FETCH(10)": reads, "PRE-FETCH(16)": reads, "GET LBA STATUS": reads,

		"MODE SELECT(6)": writes, "MODE SELECT(10)": writes, "WRITE(6)": writes, "WRITE(10)": writes, "WRITE(12)": writes, "WRITE(16)": writes,
		"WRITE AND VERIFY(10)": writes, "WRITE AND VERIFY(12)": writes, "WRITE AND VERIFY(16)": writes, "SYNCHRONIZE CACHE(10)": writes,
		"SYNCHRONIZE CACHE(16)": writes, "WRITE SAME(10)": writes, "WRITE SAME(16)": writes, "UNMAP": writes, "ORWRITE(16)": writes,
		"COMPARE AND WRITE": writes, "EXTENDED COPY(LID1)": writes,
		"START STOP UNIT": writes, // with START 0, or a POWER CONDITION; with START 1 and none always
	}
	g := newRig(t, 512)
	n := g.nexus.units[0]
	bars := func(r *cdbRule, cdb CDB) string {
		c := command{rule: r, cdb: cdb, unit: n}
		n.denyRead, n.denyWrite = false, true
		write := c.barred()
		n.denyRead = true
		read := c.barred()
		n.denyRead, n.denyWrite = false, false
		switch {
		case write && read:
			return writes
		case read:
			return reads
		case write:
			return "conflicts under write exclusive alone"
		}
		return always
	}
	for i := range cdbRules {
		r := &cdbRules[i]
		w, there := want[r.name]
		if !there {
			t.Errorf("%s is not in the table", r.name)
		}
		if got := bars(r, CDB{}); got != w {
			t.Errorf("%s is %s, and should be %s", r.name, got, w)
		}
	}
	start := rulesOf[0x1B]
	for b, w := range map[byte]string{0x01: always, 0x00: writes, 0x11: writes, 0x31: writes, 0x04: writes, 0x02: writes, 0x03: always} {
		if got := bars(start, CDB{4: b}); got != w {
			t.Errorf("START STOP UNIT with %02x is %s, and should be %s", b, got, w)
		}
	}
	n.denyRead, n.denyWrite = true, true
	g.do([]byte{0x1B, 0, 0, 0, 0x00}).Want("STOP of one whom a reservation bars", "conflict")
	g.do([]byte{0x1B, 0, 0, 0, 0x01}).Want("START of one whom a reservation bars", "good")
}

// TestReportLUNsTellsAllUnits is SAM-5 section 5.14, "Unit attention conditions": REPORT LUNS clears that the list has changed in each unit.
func TestReportLUNsTellsAllUnits(t *testing.T) {
	g := newRig(t, 512)
	g.attach(1, "Mem0")
	g.quiet()
	g.nexus.raise(attentionLUNs)
	list := []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}
	g.do(list, wants(16)).Want("REPORT LUNS", "good")
	g.do([]byte{0x00}, at(1)).Want("the other unit", "good")
	g.nexus.raise(attentionLUNs)
	g.nexus.raise(attentionMode)
	g.do(list, wants(16), at(5)).Want("REPORT LUNS where nothing is", "good")
	for lun := range 2 {
		g.do([]byte{0x00}, at(lun)).Want("what else there is to tell", "06/2A/01")
		g.do([]byte{0x00}, at(lun)).Want("told", "good")
	}
}

// TestUnmapDescriptorCount is SBC-3, "UNMAP parameter list": too many descriptors are wrong in the list. One that is only longer is none.
func TestUnmapDescriptorCount(t *testing.T) {
	g := newRig(t, 512)
	ranges := make([][2]uint64, unmapDescriptorsMax+1)
	for i := range ranges {
		ranges[i] = [2]uint64{uint64(i), 1}
	}
	full := random(300 * 512)
	g.write(0, full)
	g.unmap(unmapList(ranges...)).Want("one too many", "05/26/00").WantPointer(pointsList, 2)
	if !bytes.Equal(g.read(0, 300), full) {
		t.Fatal("a list that was refused unmapped something")
	}
	g.unmap(append(unmapList(ranges[:2]...), make([]byte, 60000)...)).Want("a long list with two", "good")
	if clear(full[:2*512]); !bytes.Equal(g.read(0, 300), full) {
		t.Fatal("a long list with two did not unmap these two alone")
	}
	g.unmap(unmapList(ranges[:unmapDescriptorsMax]...)).Want("as many as there may be", "good")
	if clear(full[:unmapDescriptorsMax*512]); !bytes.Equal(g.read(0, 300), full) {
		t.Fatal("not all were unmapped")
	}
}

// TestSWPMakesDurable is SPC-4, "Control mode page": what is in the cache is written to the medium when SWP is set.
func TestSWPMakesDurable(t *testing.T) {
	g := newRig(t, 512)
	g.reshape(func(q *bdev.Geometry) { q.Volatile = true })
	control := g.modeSense(modeCurrent, 0x0A)
	control[4] |= controlSWP
	list := append([]byte{0, 0, 0, 0}, control...)
	x := g.start([]byte{0x15, 0x10, 0, 0, byte(len(list))}, sends(list))
	if !x.req.InFlight() || x.req.Kind != bdev.Flush {
		t.Error("SWP is set and what was written is not made durable")
	}
	g.finish(x).Want("SWP 1", "good")
}
