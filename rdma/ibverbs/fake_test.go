//go:build cgo

package ibverbs

import (
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/ibverbs/internal/fakelib"
)

// stage is a provider over the fake library, with what most tests want of it.
type stage struct {
	*testing.T
	lib  *fakelib.Lib
	p    *provider
	card *card
	cm   *cm
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, lib: fakelib.New(t)}
	s.open()
	m, err := s.p.NewCM()
	s.ok(err)
	s.cm = m.(*cm)
	s.log()
	return s
}

func (s *stage) open() {
	s.Helper()
	p, err := open(s.lib.Path(), s.lib.Path())
	s.ok(err)
	s.p = p.(*provider)
	cards, err := p.Cards()
	s.ok(err)
	s.card = cards[0].(*card)
}

// over closes all, and looks whether anything is left.
func (s *stage) over() {
	s.Helper()
	s.ok(s.cm.Close())
	s.ok(s.p.Close())
	if left := s.lib.Do("alive"); left != "0" {
		s.Errorf("%s objects of the libraries are left", left)
	}
}

func (s *stage) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) log() string {
	s.Helper()
	return s.lib.Do("log")
}

// want compares what the libraries were asked for since it was looked last.
func (s *stage) want(why string, lines ...string) {
	s.Helper()
	if got, want := s.log(), strings.Join(lines, "\n")+"\n"; got != want && (len(lines) > 0 || got != "") {
		s.Errorf("%s: the libraries were asked for\n%swant\n%s", why, got, want)
	}
}

// refused expects an error that says all of words.
func (s *stage) refused(err error, words ...string) {
	s.Helper()
	if err == nil {
		s.Errorf("there was no error; want one of %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.Errorf("the error %q does not say %q", err, w)
		}
	}
}

// event orders an event and waits for it.
func (s *stage) event(format string, a ...any) rdma.Event {
	s.Helper()
	s.lib.Do("event "+format, a...)
	e, err := s.cm.Next()
	s.ok(err)
	return e
}

// listen makes a listener.
func (s *stage) listen() rdma.ID {
	s.Helper()
	id, _, err := s.cm.Listen(netip.MustParseAddrPort("192.0.2.1:4420"), 128)
	s.ok(err)
	return id
}

// queue makes a connection with a queue pair on the first card.
func (s *stage) queue(listener rdma.ID, cq rdma.CQ) (rdma.ID, rdma.QP) {
	s.Helper()
	e := s.event("id=%d kind=4 card=1", listener)
	qp, _, err := s.card.CreateQP(e.ID, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 8, RecvDepth: 8, SGEs: 2, InlineBytes: 64})
	s.ok(err)
	return e.ID, qp
}

// memory is outside of Go's heap.
func memory(t testing.TB, bytes int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
