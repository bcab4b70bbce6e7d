package reactor

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// newShares are connections of one target, on a pool of their own.
func newShares(t testing.TB, bytes, n int) (m *Memory, l *Lender, s []*Share) {
	t.Helper()
	m = newPool(t, bytes)
	m.r.memory = m
	l = &Lender{Every: 5 * Second, Look: new(looks)}
	for range n {
		x := new(Share)
		x.Init(m.r, l, 8192, 2)
		s = append(s, x)
	}
	return m, l, s
}

// looks counts how often a target looked for hosts that stall.
type looks int

func (l *looks) Run() { *l++ }

// asker is a command that asks for memory, and asks again when it may.
type asker struct {
	s    *Share
	n    int
	loan Loan
	ran  int
	hear func(*asker) // nil or hears that it has got memory
}

func (a *asker) ask() bool { return a.s.Lend(&a.loan, a.n, a) }

func (a *asker) Run() {
	a.ran++
	if a.ask() && a.hear != nil {
		a.hear(a)
	}
}

// fill takes all of the pool that is left.
func fill(t testing.TB, m *Memory) (all [][]byte) {
	for _, n := range []int{BufferMax, PageBytes} {
		for b := m.Get(n); b != nil; b = m.Get(n) {
			all = append(all, b)
		}
	}
	if m.Free() != 0 {
		t.Fatalf("%d bytes of the pool are left", m.Free())
	}
	return all
}

func TestHowMuchAConnectionMayHave(t *testing.T) {
	const kept = 8 << 20 // of 32 MiB
	for _, c := range []struct {
		why            string
		has, free, ask int
		may            bool
	}{
		{"the first, of the last that there is", 0, 1 << 20, 1 << 20, true},
		{"the first, though there is nothing", 0, 0, 1 << 20, true},
		{"a share of much", 1 << 20, 24 << 20, 2 << 20, true},
		{"more than a share", 1<<20 + 1, 24 << 20, 2 << 20, false},
		{"as far as what is kept", 64 << 10, kept + 64<<10, 64 << 10, true},
		{"of what is kept", 64 << 10, kept + 64<<10 - 1, 64 << 10, false},
	} {
		s := Share{bytes: c.has, kept: kept}
		if s.may(c.ask, c.free) != c.may {
			t.Errorf("%s: %d bytes for who has %d, of %d: %t", c.why, c.ask, c.has, c.free, !c.may)
		}
	}
}

func TestAConnectionsCommandsWaitForItsOwnMemory(t *testing.T) {
	m, _, s := newShares(t, 16<<20, 2)
	var order []int
	own := make([]asker, 5)
	for i := range own {
		own[i] = asker{s: s[0], n: BufferMax, hear: func(*asker) { order = append(order, i) }}
		if got := own[i].ask(); got != (i == 0) {
			t.Fatalf("command %d has memory: %t", i, got)
		}
	}
	other := asker{s: s[1], n: BufferMax}
	if !other.ask() {
		t.Error("a connection that has nothing waits for another")
	}
	if m.waiters != 0 {
		t.Errorf("%d wait for the pool, which has memory", m.waiters)
	}
	for i := range own {
		if s[0].Bytes() != BufferMax {
			t.Fatalf("the connection has %d bytes", s[0].Bytes())
		}
		s[0].GiveBack(&own[i].loan)
		m.flush()
	}
	if !slices.Equal(order, []int{1, 2, 3, 4}) {
		t.Errorf("memory was lent in the order %v", order)
	}
	if n := own[2].ran; n != 2 {
		t.Errorf("command 2 was asked to try %d times: as the next one, and as the first", n)
	}
	if s[0].Bytes() != 0 || m.inUse != BufferMax {
		t.Errorf("at the end the connection has %d bytes, and %d of the pool are lent", s[0].Bytes(), m.inUse)
	}
}

// Small commands that come later do not overtake a large one of their connection.
func TestNobodyOvertakesWhoWaitsInTurn(t *testing.T) {
	m, _, s := newShares(t, 16<<20, 1)
	first, large, small := asker{s: s[0], n: PageBytes}, asker{s: s[0], n: BufferMax}, asker{s: s[0], n: PageBytes}
	another := asker{s: s[0], n: BufferMax}
	if !first.ask() || !another.ask() {
		t.Fatal("a share of an empty pool is less than its eighth")
	}
	if large.ask() || small.ask() {
		t.Fatal("the connection has more than its share, or the small one overtook")
	}
	s[0].GiveBack(&first.loan)
	m.flush()
	if large.loan.B != nil || small.loan.B != nil || large.ran != 1 || small.ran != 0 {
		t.Errorf("large has %d bytes and ran %d times; small %d, %d", len(large.loan.B), large.ran, len(small.loan.B), small.ran)
	}
	s[0].GiveBack(&another.loan)
	m.flush()
	if large.loan.B == nil || small.loan.B == nil {
		t.Error("they wait on though nothing is lent")
	}
}

func TestWhoIsForgottenHasNoTurn(t *testing.T) {
	for gone := range 3 {
		m, _, s := newShares(t, 16<<20, 1)
		var order []int
		all := make([]asker, 4)
		for i := range all {
			all[i] = asker{s: s[0], n: BufferMax, hear: func(*asker) { order = append(order, i) }}
			all[i].ask()
		}
		if !s[0].Forget(&all[gone+1].loan) || s[0].Forget(&all[gone+1].loan) || s[0].Forget(&all[0].loan) {
			t.Error("Forget does not tell who waits")
		}
		late := asker{s: s[0], n: BufferMax, hear: func(*asker) { order = append(order, 4) }}
		late.ask() // behind whoever is the last now
		for _, a := range []*asker{&all[0], &all[1], &all[2], &all[3], &late} {
			s[0].GiveBack(&a.loan)
			m.flush()
		}
		want := slices.DeleteFunc([]int{1, 2, 3, 4}, func(i int) bool { return i == gone+1 })
		if !slices.Equal(order, want) || all[gone+1].ran > 0 {
			t.Errorf("without %d: memory was lent in the order %v, and it ran %d times", gone+1, order, all[gone+1].ran)
		}
	}
}

func TestDataThatArrivesHasRoomBesideThePool(t *testing.T) {
	m, _, s := newShares(t, 16<<20, 2)
	var l [5]Loan
	if !s[0].LendArriving(&l[0], 4096) || !m.Owns(l[0].B) || s[0].Bytes() != 0 {
		t.Fatal("data that arrives is not of the pool, or counts against the share")
	}
	rest := fill(t, m)
	if !s[0].LendArriving(&l[1], 8192) || m.Owns(l[1].B) || len(l[1].B) != 8192 {
		t.Error("no spare for as much as one holds")
	}
	if s[0].LendArriving(&l[2], 8193) {
		t.Error("a spare for more than one holds")
	}
	if !s[0].LendArriving(&l[2], 1) || s[0].LendArriving(&l[3], 1) {
		t.Error("there are not two spares")
	}
	if !s[1].LendArriving(&l[4], 1) {
		t.Error("another connection has no spare of its own")
	}
	room := &l[1].B[0]
	if !s[0].GiveBack(&l[1]) {
		t.Error("a spare came back, and nobody hears")
	}
	if !s[0].LendArriving(&l[3], 5) || &l[3].B[0] != room || len(l[3].B) != 5 {
		t.Error("the spare that came back is not lent again")
	}
	for range 2 { // something of the pool, then nothing
		if s[0].GiveBack(&l[0]) {
			t.Error("it came back as a spare")
		}
		if s[0].Bytes() != 0 {
			t.Errorf("nothing is lent but spares, and %d bytes count", s[0].Bytes())
		}
	}
	for i := range l {
		if s[i/4].GiveBack(&l[i]) != (i >= 2) { // 0 and 1 are back
			t.Errorf("giving back loan %d tells something else", i)
		}
	}
	for _, b := range rest {
		m.Put(b)
	}
	if m.inUse != 0 {
		t.Errorf("%d bytes are still lent", m.inUse)
	}
}

// Of data that has begun to arrive a host keeps the rest back as long as it likes: it leaves the last part of the pool to others.
func TestDataThatHasBegunToArriveCounts(t *testing.T) {
	m, _, s := newShares(t, 16<<20, 3)
	begun := make([]Loan, 0, 16)
	more := func(s *Share, n int) bool {
		begun = append(begun, Loan{})
		return s.LendBegun(&begun[len(begun)-1], n)
	}
	n := 0
	for more(s[0], BufferMax) {
		n++
	}
	if n != 12 || s[0].Bytes() != 12*BufferMax {
		t.Errorf("it has %d buffers of 16, %d bytes", n, s[0].Bytes())
	}
	if !more(s[1], BufferMax) || more(s[1], PageBytes) {
		t.Error("who has nothing has none of the last part, or two")
	}
	rest := fill(t, m)
	if !more(s[2], 100) || s[2].Bytes() != 0 {
		t.Error("there is no spare, or it counts")
	}
	s[2].GiveBack(&begun[len(begun)-1])
	s[1].GiveBack(&begun[13])
	for i := range n {
		s[0].GiveBack(&begun[i])
	}
	for _, b := range rest {
		m.Put(b)
	}
	if s[0].Bytes()+s[1].Bytes()+m.inUse != 0 {
		t.Errorf("%d and %d bytes count, %d are lent", s[0].Bytes(), s[1].Bytes(), m.inUse)
	}
}

// While somebody waits for the pool every target looks for hosts that stall, whoever's host it is that waits.
func TestLendersLookForHostsThatStallWhileSomebodyWaits(t *testing.T) {
	m, one, s := newShares(t, 16<<20, 1)
	other := &Lender{Every: 3 * Second, Look: new(looks)}
	new(Share).Init(m.r, other, 0, 0)
	looked := func() string { return fmt.Sprint(*one.Look.(*looks), *other.Look.(*looks)) }
	pass := func(to Ticks) {
		m.r.now = to
		m.r.timers.expire(to)
	}
	rest := fill(t, m)
	a := asker{s: s[0], n: PageBytes}
	if a.ask() {
		t.Fatal("there was memory")
	}
	var arriving Loan
	s[0].Await(&arriving, new(looks))
	for _, c := range []struct {
		at   Ticks
		want string
	}{{2 * Second, "0 0"}, {3 * Second, "0 1"}, {5 * Second, "1 1"}, {6 * Second, "1 2"}, {10 * Second, "2 3"}} {
		if pass(c.at); looked() != c.want {
			t.Errorf("after %d s they looked %s times, want %s", c.at/Second, looked(), c.want)
		}
	}
	if !s[0].Forget(&arriving) || s[0].Forget(&arriving) {
		t.Error("Forget does not tell who waits for the pool")
	}
	m.Put(rest[len(rest)-1])
	m.flush()
	if a.loan.B == nil {
		t.Fatal("memory came back, and who waited for it has none")
	}
	pass(100 * Second)
	pass(200 * Second)
	if looked() != "2 3" || len(m.r.timers.t) > 0 {
		t.Errorf("nobody waits: they looked %s times, and %d timers run", looked(), len(m.r.timers.t))
	}
	if s[0].GiveBack(&a.loan); !a.ask() {
		t.Error("there was no memory")
	}
}

// Whatever happens, in every order: a share knows what is out, and when all that was lent comes back everybody who waits is served.
func TestEverybodyWhoWaitsIsServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := newMemory(new(Reactor), &Config{MemoryBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer m.unmap()
		m.r.memory = m
		l := &Lender{Every: Second, Look: new(looks)}
		var shares [3]Share
		var holds, waits [3][]*asker // each connection's commands
		for i := range shares {
			shares[i].Init(m.r, l, 4096, 1)
		}
		hear := func(a *asker) {
			for i := range shares {
				if k := slices.Index(waits[i], a); k >= 0 {
					waits[i] = slices.Delete(waits[i], k, k+1)
					holds[i] = append(holds[i], a)
					return
				}
			}
			t.Fatal("memory for a command that did not wait")
		}
		check := func() {
			for i := range shares {
				n := 0
				for _, a := range holds[i] {
					n += a.n
				}
				if shares[i].Bytes() != n {
					t.Fatalf("connection %d has %d bytes, says %d", i, n, shares[i].Bytes())
				}
				if len(waits[i]) > 0 && n == 0 && m.waiters == 0 && !shares[i].waking.queued {
					t.Fatalf("connection %d has nothing, and waits for nothing", i)
				}
			}
		}
		giveBack := func(i, k int) {
			a := holds[i][k]
			holds[i] = slices.Delete(holds[i], k, k+1)
			a.s.GiveBack(&a.loan)
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, len(shares)-1).Draw(t, "connection")
			switch rapid.SampledFrom([]string{"ask", "ask", "give back", "forget", "flush"}).Draw(t, "step") {
			case "ask":
				a := &asker{s: &shares[i], n: PageBytes << rapid.IntRange(0, classes-1).Draw(t, "size"), hear: hear}
				if a.ask() {
					holds[i] = append(holds[i], a)
				} else {
					waits[i] = append(waits[i], a)
				}
			case "give back":
				if n := len(holds[i]); n > 0 {
					giveBack(i, rapid.IntRange(0, n-1).Draw(t, "which"))
				}
			case "forget":
				if n := len(waits[i]); n > 0 {
					k := rapid.IntRange(0, n-1).Draw(t, "which")
					if !shares[i].Forget(&waits[i][k].loan) {
						t.Fatal("who waits is not known")
					}
					waits[i] = slices.Delete(waits[i], k, k+1)
				}
			case "flush":
				m.flush()
			}
			check()
		}
		for n := len(waits[0]) + len(waits[1]) + len(waits[2]); n >= 0; n-- { // at the least one is served each time
			m.flush()
			for i := range shares {
				for len(holds[i]) > 0 {
					giveBack(i, 0)
				}
			}
			check()
		}
		for i := range waits {
			if n := len(waits[i]); n > 0 {
				t.Fatalf("all is given back, and %d commands of connection %d wait", n, i)
			}
		}
		if m.inUse != 0 || m.waiters != 0 {
			t.Fatalf("at the end %d bytes are lent, and %d wait", m.inUse, m.waiters)
		}
	})
}

func TestShareAllocatesNothing(t *testing.T) {
	m, _, s := newShares(t, 16<<20, 2)
	first, then, other := asker{s: s[0], n: BufferMax}, asker{s: s[0], n: BufferMax}, asker{s: s[1], n: PageBytes}
	var arrives Loan
	turn := func() {
		for _, a := range []*asker{&first, &then, &other} {
			a.ask()
		}
		s[1].LendArriving(&arrives, 4096)
		for _, a := range []*asker{&first, &then, &other} {
			a.s.GiveBack(&a.loan)
			m.flush()
		}
		s[1].GiveBack(&arrives)
	}
	turn()
	if then.ran == 0 {
		t.Fatal("nobody waited")
	}
	if n := testing.AllocsPerRun(100, turn); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
