package reactor_test

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// traveller is a socket that rests after each receive and goes on, on the other reactor, with the next.
type traveller struct {
	t    *testing.T
	at   *reactor.Reactor
	to   *reactor.Reactor
	s    *reactor.Socket
	buf  []byte
	got  []byte
	want int
	hops int
	end  chan struct{}
}

func (v *traveller) begin(fd int) {
	v.s = v.at.NewSocket(fd, v)
	v.s.Recv(v.buf)
	v.s.Rest()
	v.s.Rest()
}

func (v *traveller) Received(n int, err error) {
	if err != nil && !errors.Is(err, syscall.ECANCELED) || err == nil && n == 0 {
		v.t.Errorf("received %d, %v", n, err)
		v.s.Close()
		return
	}
	if v.got = append(v.got, v.buf[:n]...); len(v.got) == v.want {
		v.s.Close()
		return
	}
	v.hops++
	fd := v.s.Detach()
	v.at.Send(v.to, &arrival{v, fd})
}

type arrival struct {
	v  *traveller
	fd int
}

func (a *arrival) Receive(r *reactor.Reactor) {
	a.v.at, a.v.to = r, a.v.at
	a.v.begin(a.fd)
}

func (v *traveller) Sent(int, error) {}
func (v *traveller) Closed()         { close(v.end) }

// A receive that is told to end ends with what had arrived, or with nothing; what comes after it is the next one's, on whichever reactor.
func TestRestLosesNothing(t *testing.T) {
	g := start(t, reactor.Config{Cores: []int{-1, -1}})
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	const total = 64 << 10
	sent := make([]byte, total)
	for i := range sent {
		sent[i] = byte(i ^ i>>8)
	}
	v := &traveller{t: t, at: g.Reactor(0), to: g.Reactor(1), buf: make([]byte, 512), want: total, end: make(chan struct{})}
	on(t, g.Reactor(0), func() { v.begin(pair[0]) })
	for at := 0; at < total; at += 1024 {
		if n, err := unix.Write(pair[1], sent[at:at+1024]); n != 1024 || err != nil {
			t.Fatalf("sent %d bytes: %v", n, err)
		}
	}
	<-v.end
	_ = unix.Close(pair[1])
	if string(v.got) != string(sent) {
		t.Error("other bytes were received than sent")
	}
	if v.hops < total/512/2 {
		t.Errorf("%d hops", v.hops)
	}
}
