package bdevtest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file breaks rules on purpose: a suite that passes everything proves nothing.

// broken is a device in memory that does one thing wrong.
type broken struct {
	mem   []byte
	shift uint
	how   func(c *brokenQueue, q *bdev.Request) bool // reports whether it has dealt with the request
	kept  []byte                                     // garbage, for one that allocates
}

func (b *broken) Describe() any { return nil }
func (b *broken) Close() error  { return nil }
func (b *broken) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &brokenQueue{b: b, r: r}, nil
}

type brokenQueue struct {
	b     *broken
	r     *reactor.Reactor
	again reactor.Timer
	q     *bdev.Request
	n     int
}

func (c *brokenQueue) Close() {}

func (c *brokenQueue) Submit(q *bdev.Request) {
	c.n++
	if c.b.how(c, q) {
		return
	}
	q.CompleteLater(c.do(q))
}

// Run completes a request a second time.
func (c *brokenQueue) Run() { c.q.Complete(bdev.StatusOK) }

// do is what a right driver does.
func (c *brokenQueue) do(q *bdev.Request) bdev.Status {
	at := q.LBA << c.b.shift
	switch q.Kind {
	case bdev.Read:
		for _, b := range q.Data {
			at += uint64(copy(b, c.b.mem[at:]))
		}
	case bdev.Write:
		for _, b := range q.Data {
			at += uint64(copy(c.b.mem[at:], b))
		}
	case bdev.Unmap, bdev.WriteZeroes:
		clear(c.b.mem[at:][:q.Blocks<<c.b.shift])
	case bdev.Copy:
		copy(c.b.mem[at:], c.b.mem[q.LBA2<<c.b.shift:][:q.Blocks<<c.b.shift])
	case bdev.Compare, bdev.CompareAndWrite:
		from := at
		for _, b := range q.Data {
			for i := range b {
				if c.b.mem[at] != b[i] {
					q.Detail = uint32(at - from)
					return bdev.StatusMiscompare
				}
				at++
			}
		}
		if q.Kind == bdev.CompareAndWrite {
			at = from
			for _, b := range q.Data2 {
				at += uint64(copy(c.b.mem[at:], b))
			}
		}
	}
	return bdev.StatusOK
}

func (b *broken) subject(native bdev.KindSet) Subject {
	return Subject{Name: "broken", Make: func(t T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		geometry := bdev.Geometry{BlockSize: blockSize, Blocks: uint64(Bytes / blockSize), Native: native, UnmapZeroes: true}
		b.mem, b.shift = make([]byte, Bytes), geometry.Shift()
		d, err := g.Register(bdev.Config{Name: "Broken0", Product: "broken", UUID: uuid.New(), Geometry: geometry, Driver: b})
		if err != nil {
			t.Fatalf("%v", err)
		}
		return d
	}}
}

var everything = bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes, bdev.Compare, bdev.CompareAndWrite, bdev.Copy)

// findings is a T that collects what a rule finds.
type findings struct {
	*testing.T
	dir    string
	text   []string
	failed bool
	clean  []func()
}

func (f *findings) Errorf(format string, args ...any) {
	f.failed = true
	f.text = append(f.text, fmt.Sprintf(format, args...))
}
func (f *findings) Error(args ...any)            { f.Errorf("%s", fmt.Sprint(args...)) }
func (f *findings) Fail()                        { f.failed = true }
func (f *findings) FailNow()                     { f.failed = true; runtime.Goexit() }
func (f *findings) Fatalf(s string, args ...any) { f.Errorf(s, args...); runtime.Goexit() }
func (f *findings) Fatal(args ...any)            { f.Error(args...); runtime.Goexit() }
func (f *findings) Failed() bool                 { return f.failed }
func (f *findings) Logf(string, ...any)          {}
func (f *findings) Log(...any)                   {}
func (f *findings) TempDir() string              { return f.dir }
func (f *findings) Cleanup(c func())             { f.clean = append(f.clean, c) }

// try tests a subject by one rule and gives what it found.
func try(t *testing.T, g *reactor.Group, s Subject, r Rule, patience time.Duration) []string {
	f := &findings{T: t, dir: t.TempDir()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(f.clean) - 1; i >= 0; i-- {
				f.clean[i]()
			}
		}()
		e := NewEnv(f, g, s, 512)
		e.Patience = patience
		r.Test(e)
	}()
	<-done
	if f.failed && f.text == nil {
		f.text = []string{"it failed"}
	}
	return f.text
}

func TestARightDriverPassesAllRules(t *testing.T) {
	g := Start(t, 1)
	b := &broken{how: func(*brokenQueue, *bdev.Request) bool { return false }}
	for _, native := range []bdev.KindSet{everything, bdev.SetOf(bdev.Read, bdev.Write)} {
		s := b.subject(native)
		for _, r := range Rules() {
			if found := try(t, g, s, r, time.Minute); found != nil {
				t.Errorf("%s: %s", r.Name, strings.Join(found, "\n"))
			}
		}
	}
}

func TestEveryBrokenRuleIsFound(t *testing.T) {
	kind := func(k bdev.Kind, f func(c *brokenQueue, q *bdev.Request)) func(*brokenQueue, *bdev.Request) bool {
		return func(c *brokenQueue, q *bdev.Request) bool {
			if q.Kind != k {
				return false
			}
			f(c, q)
			return true
		}
	}
	for _, c := range []struct {
		what string
		by   string // the rule that must find it
		how  func(c *brokenQueue, q *bdev.Request) bool
		want string // in what is found
	}{
		{"completes inside Submit", "each request ends once", func(c *brokenQueue, q *bdev.Request) bool {
			q.Complete(c.do(q))
			return true
		}, "inside Submit"},
		{"completes a request twice", "each request ends once", func(c *brokenQueue, q *bdev.Request) bool {
			if q.Kind != bdev.Write {
				return false
			}
			c.q = q
			c.r.SetTimer(&c.again, c.r.Now(), c)
			return false
		}, "completed 2 times"},
		{"loses a request", "each request ends once", kind(bdev.Read, func(*brokenQueue, *bdev.Request) {}), "not completed"},
		{"exchanges the memory of a request", "each request ends once", kind(bdev.Write, func(c *brokenQueue, q *bdev.Request) {
			s := c.do(q)
			q.Data = append([][]byte{}, q.Data...)
			q.CompleteLater(s)
		}), "came back as"},
		{"forgets the last block of a write", "every block is where it was written, for every reactor", kind(bdev.Write, func(c *brokenQueue, q *bdev.Request) {
			last := (q.LBA + q.Blocks) << c.b.shift
			old := string(c.b.mem[last-512 : last])
			s := c.do(q)
			copy(c.b.mem[last-512:], old)
			q.CompleteLater(s)
		}), "differs"},
		{"reads the block before", "every length and every number of pieces", kind(bdev.Read, func(c *brokenQueue, q *bdev.Request) {
			if q.LBA > 0 {
				q.LBA--
			}
			q.CompleteLater(c.do(q))
		}), "something else"},
		{"uses the first piece of memory only", "every length and every number of pieces", kind(bdev.Write, func(c *brokenQueue, q *bdev.Request) {
			copy(c.b.mem[q.LBA<<c.b.shift:], q.Data[0])
			q.CompleteLater(bdev.StatusOK)
		}), "something else"},
		{"zeroes a block too many", "zeroes are written where asked and nowhere else", kind(bdev.WriteZeroes, func(c *brokenQueue, q *bdev.Request) {
			q.Blocks++
			q.CompleteLater(c.do(q))
		}), "differs"},
		{"says that unmapped blocks read as zeros, and leaves them", "unmapped blocks are zeros if it says so, and their neighbours are left alone",
			kind(bdev.Unmap, func(c *brokenQueue, q *bdev.Request) { q.CompleteLater(bdev.StatusOK) }), "differs"},
		{"takes the second difference for the first", "compare finds the first byte that differs", kind(bdev.Compare, func(c *brokenQueue, q *bdev.Request) {
			s := c.do(q)
			q.Detail++
			q.CompleteLater(s)
		}), "reported at"},
		{"finds everything equal", "compare finds the first byte that differs", kind(bdev.Compare, func(c *brokenQueue, q *bdev.Request) {
			q.CompleteLater(bdev.StatusOK)
		}), "want miscompare"},
		{"writes although it differs", "compare-and-write writes if equal and only then", kind(bdev.CompareAndWrite, func(c *brokenQueue, q *bdev.Request) {
			s := c.do(q)
			at := q.LBA << c.b.shift
			for _, b := range q.Data2 {
				at += uint64(copy(c.b.mem[at:], b))
			}
			q.CompleteLater(s)
		}), "differs"},
		{"copies from the front when the ranges overlap", "copy copies, forwards and backwards and over itself", kind(bdev.Copy, func(c *brokenQueue, q *bdev.Request) {
			to, from := q.LBA<<c.b.shift, q.LBA2<<c.b.shift
			for i := range q.Blocks << c.b.shift {
				c.b.mem[to+i] = c.b.mem[from+i]
			}
			q.CompleteLater(bdev.StatusOK)
		}), "differs"},
		{"is smaller than it was made", "its shape is the same for everyone", func(c *brokenQueue, q *bdev.Request) bool { return false }, "want 4194304 bytes"},
		{"aborts and completes nonetheless", "an aborted request completes as aborted or as if it was not", nil, "abort said true"},
		{"allocates", "in steady state nothing is allocated", func(c *brokenQueue, q *bdev.Request) bool {
			c.b.kept = make([]byte, 100)
			return false
		}, "allocations"},
		{"waits for a lock", "no reactor waits for a lock", func(c *brokenQueue, q *bdev.Request) bool {
			if c.n%500 == 0 {
				<-time.After(time.Millisecond)
			}
			return false
		}, "waited"},
		{"fails every hundredth request", "it behaves as an array of bytes", func(c *brokenQueue, q *bdev.Request) bool {
			if c.n%100 != 99 {
				return false
			}
			q.CompleteLater(bdev.StatusIO)
			return true
		}, ""},
		{"loses a bit now and then", "reactors that keep to their own blocks do not disturb each other", kind(bdev.Write, func(c *brokenQueue, q *bdev.Request) {
			s := c.do(q)
			if c.n%4 == 0 {
				c.b.mem[q.LBA<<c.b.shift+5] ^= 2
			}
			q.CompleteLater(s)
		}), ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			g := Start(t, 1)
			b := &broken{how: c.how}
			s := b.subject(everything)
			switch c.what {
			case "aborts and completes nonetheless":
				b.how = func(*brokenQueue, *bdev.Request) bool { return false }
				s.Make = liar(b, everything)
			case "is smaller than it was made":
				inner := s.Make
				s.Make = func(t T, g *bdev.Registry, size uint32) *bdev.Device {
					d := inner(t, g, size)
					if err := d.Resize(100); err != nil {
						t.Fatalf("%v", err)
					}
					return d
				}
			}
			var rule Rule
			for _, r := range Rules() {
				if r.Name == c.by {
					rule = r
				}
			}
			if rule.Test == nil {
				t.Fatalf("there is no rule %q", c.by)
			}
			found := strings.Join(try(t, g, s, rule, 2*time.Second), "\n")
			if found == "" || !strings.Contains(found, c.want) {
				t.Errorf("%q found %q, want something about %q", c.by, found, c.want)
			}
		})
	}
}

// liar says that it aborted what it goes on with.
func liar(b *broken, native bdev.KindSet) func(t T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		geometry := bdev.Geometry{BlockSize: blockSize, Blocks: uint64(Bytes / blockSize), Native: native, UnmapZeroes: true}
		b.mem, b.shift = make([]byte, Bytes), geometry.Shift()
		d, err := g.Register(bdev.Config{Name: "Liar0", Product: "broken", UUID: uuid.New(), Geometry: geometry, Driver: lying{b}})
		if err != nil {
			t.Fatalf("%v", err)
		}
		return d
	}
}

type lying struct{ *broken }

func (l lying) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &lyingQueue{brokenQueue: brokenQueue{b: l.broken, r: r}}, nil
}

type lyingQueue struct {
	brokenQueue
	open  []*bdev.Request
	timer reactor.Timer
}

func (c *lyingQueue) Submit(q *bdev.Request) {
	c.open = append(c.open, q)
	if !c.timer.Set() {
		c.r.SetTimer(&c.timer, c.r.Now()+reactor.Millisecond, c)
	}
}

func (c *lyingQueue) Run() {
	all := c.open
	c.open = nil
	for _, q := range all {
		q.Complete(c.do(q))
	}
}

func (c *lyingQueue) Abort(*bdev.Request) bool { return true }
