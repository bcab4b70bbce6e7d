package reactor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// sockFuncs is a SocketHandler made of functions.
type sockFuncs struct {
	received, sent func(n int, err error)
	closed         func()
}

func (f *sockFuncs) Received(n int, err error) { f.received(n, err) }
func (f *sockFuncs) Sent(n int, err error)     { f.sent(n, err) }
func (f *sockFuncs) Closed()                   { f.closed() }

// listenFuncs is a ListenHandler made of functions.
type listenFuncs struct {
	accepted func(fd int)
	ended    func(err error)
}

func (f *listenFuncs) Accepted(fd int)       { f.accepted(fd) }
func (f *listenFuncs) ListenEnded(err error) { f.ended(err) }

// dialed hears the end of a Connect.
type dialed func(fd int, err error)

func (f dialed) Connected(fd int, err error) { f(fd, err) }

// echo is a connection that sends back what it receives, in pieces, and closes when the peer ends.
type echo struct {
	r    *reactor.Reactor
	s    *reactor.Socket
	in   []byte
	left [][]byte // to send
	end  func()
}

func newEcho(r *reactor.Reactor, fd int, end func()) *echo {
	e := &echo{r: r, in: r.Memory().Get(256 << 10), end: end}
	e.s = r.NewSocket(fd, e)
	e.s.Recv(e.in)
	return e
}

func (e *echo) Received(n int, err error) {
	if n == 0 || err != nil {
		e.s.Close()
		return
	}
	e.left = e.left[:0]
	for b := e.in[:n]; len(b) > 0; { // many pieces, but as many as one send takes
		k := min(len(b), max(1, n/100))
		e.left = append(e.left, b[:k])
		b = b[k:]
	}
	e.s.Send(e.left)
}

func (e *echo) Sent(n int, err error) {
	if err != nil {
		e.s.Close()
		return
	}
	for len(e.left) > 0 && n >= len(e.left[0]) {
		n -= len(e.left[0])
		e.left = e.left[1:]
	}
	if len(e.left) == 0 {
		e.s.Recv(e.in)
		return
	}
	e.left[0] = e.left[0][n:]
	e.s.Send(e.left)
}

func (e *echo) Closed() {
	e.r.Memory().Put(e.in)
	e.end()
}

// serve lets r accept on a new address of the loopback.
func serve(t testing.TB, r *reactor.Reactor, accepted func(fd int)) (addr netip.AddrPort, stop func()) {
	t.Helper()
	fd, err := reactor.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var l *reactor.Listener
	on(t, r, func() { l = r.Listen(fd, &listenFuncs{accepted, func(err error) { ended <- err }}) })
	return reactor.AddrPort(sa), func() {
		t.Helper()
		on(t, r, func() { l.Close(); l.Close() })
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// sameResources notes what the reactor holds for sockets, and returns a check that it holds the same again.
func sameResources(t testing.TB, r *reactor.Reactor) (check func()) {
	t.Helper()
	count := func() (s string) {
		on(t, r, func() {
			places, free := r.OpsTable()
			s = fmt.Sprintf("%d operations bound, %d places for files, %d bytes lent", places-free, r.FilesFree(), r.Memory().Stats().InUse)
		})
		return s + ", descriptors " + descriptors(t)
	}
	before := count()
	return func() {
		t.Helper()
		if after := count(); after != before {
			t.Errorf("before: %s\nafter:  %s", before, after)
		}
	}
}

func dial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEchoOfManyConnections(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Idle = reactor.Interrupt
		g := start(t, cfg)
		r := g.Reactor(0)
		const clients = 8
		check := sameResources(t, r)
		closed := make(chan struct{}, clients)
		addr, stop := serve(t, r, func(fd int) {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
			newEcho(r, fd, func() { closed <- struct{}{} })
		})
		var wg sync.WaitGroup
		for i := range clients {
			c := dial(t, addr)
			data := make([]byte, 1<<20)
			rnd := rand.NewChaCha8([32]byte{byte(i)})
			_, _ = rnd.Read(data)
			wg.Add(2)
			go func() {
				defer wg.Done()
				if _, err := c.Write(data); err != nil {
					t.Error(err)
				}
				_ = c.CloseWrite()
			}()
			go func() {
				defer wg.Done()
				defer c.Close()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("client %d: %d bytes came back of %d, %v", i, len(got), len(data), err)
				}
			}()
		}
		wg.Wait()
		for range clients {
			<-closed
		}
		stop()
		check()
	})
}

func TestAThousandConnectionsLeaveNothing(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		g := start(t, cfg)
		r := g.Reactor(0)
		check := sameResources(t, r)
		closed := make(chan struct{}, 64)
		addr, stop := serve(t, r, func(fd int) { newEcho(r, fd, func() { closed <- struct{}{} }) })
		for i := range 1000 {
			c := dial(t, addr)
			switch i % 4 {
			case 0: // a reset, data in flight
				_, _ = c.Write([]byte("x"))
				_ = c.SetLinger(0)
			case 1: // one word
				var b [5]byte
				_, _ = c.Write([]byte("hello"))
				if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "hello" {
					t.Errorf("connection %d: %q, %v", i, b, err)
				}
			case 2: // nothing
			case 3: // what comes back is never read
				_, _ = c.Write(make([]byte, 100))
			}
			_ = c.Close()
			<-closed
		}
		stop()
		check()
	})
}

// The table of registered files has 1,024 places: connections past it work without one.
func TestMoreSocketsThanTheRingsTableHolds(t *testing.T) {
	g := start(t, reactor.Config{MemoryBytes: 512 << 20})
	r := g.Reactor(0)
	check := sameResources(t, r)
	const n = 1100
	closed := make(chan struct{}, n)
	addr, stop := serve(t, r, func(fd int) { newEcho(r, fd, func() { closed <- struct{}{} }) })
	var conns []*net.TCPConn
	for range n {
		conns = append(conns, dial(t, addr))
	}
	for i, c := range conns {
		var b [1]byte
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("connection %d: %v, %v", i, b, err)
		}
	}
	on(t, r, func() {
		if r.FilesFree() != 0 {
			t.Errorf("%d places are free: the test shows nothing", r.FilesFree())
		}
	})
	for _, c := range conns {
		_ = c.Close()
		<-closed
	}
	stop()
	check()
}

// pair is a socket on r and its peer in the test's hands.
type pair struct {
	s      *reactor.Socket
	peer   *net.TCPConn
	heard  chan string
	closed chan struct{}
}

func newPair(t *testing.T, r *reactor.Reactor) *pair {
	t.Helper()
	p := &pair{heard: make(chan string, 10), closed: make(chan struct{})}
	h := &sockFuncs{
		received: func(n int, err error) { p.heard <- fmt.Sprintf("received %d %v", n, err) },
		sent:     func(n int, err error) { p.heard <- fmt.Sprintf("sent %d %v", n, err) },
		closed:   func() { close(p.closed) },
	}
	accepted := make(chan struct{})
	addr, stop := serve(t, r, func(fd int) {
		p.s = r.NewSocket(fd, h)
		close(accepted)
	})
	p.peer = dial(t, addr)
	<-accepted
	stop()
	return p
}

func (p *pair) want(t *testing.T, want string) {
	t.Helper()
	if got := <-p.heard; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func TestCloseWithBothOperationsInFlight(t *testing.T) {
	for _, how := range []string{"close", "abort"} {
		t.Run(how, func(t *testing.T) {
			eachSetup(t, func(t *testing.T, cfg reactor.Config) {
				g := start(t, cfg)
				r := g.Reactor(0)
				check := sameResources(t, r)
				p := newPair(t, r)
				in, out := make([]byte, 4096), make([]byte, 32<<20) // more than any socket buffer takes
				on(t, r, func() {
					p.s.Recv(in)
					p.s.Send([][]byte{out})
				})
				on(t, r, func() {
					if !p.s.Sending() || !p.s.Receiving() || !p.s.Open() {
						t.Error("the test shows nothing: nothing is in flight")
					}
					if how == "abort" {
						p.s.Abort()
					}
					p.s.Close()
					p.s.Close()
					p.s.Abort()
					if p.s.Open() {
						t.Error("open after Close")
					}
				})
				<-p.closed
				if len(p.heard) > 0 {
					t.Errorf("heard %q after Close", <-p.heard)
				}
				n, err := io.Copy(io.Discard, p.peer)
				if how == "abort" && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the peer of an abort read %d bytes and %v", n, err)
				}
				if how == "close" && (err != nil || n == int64(len(out))) {
					t.Errorf("the peer of a close in the middle read %d bytes and %v", n, err)
				}
				_ = p.peer.Close()
				check()
			})
		})
	}
}

func TestAbortOfAnIdleConnectionIsAReset(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	p := newPair(t, r)
	defer p.peer.Close()
	on(t, r, func() { p.s.Abort() })
	if n, err := p.peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer read %d bytes and %v", n, err)
	}
	<-p.closed
}

func TestWhatWasSentBeforeCloseArrives(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	p := newPair(t, r)
	defer p.peer.Close()
	on(t, r, func() { p.s.Send([][]byte{[]byte("good"), []byte("bye")}) })
	p.want(t, "sent 7 <nil>")
	on(t, r, func() { p.s.Close() })
	if got, err := io.ReadAll(p.peer); err != nil || string(got) != "goodbye" {
		t.Errorf("the peer read %q and %v", got, err)
	}
	<-p.closed
}

func TestTheEndOfThePeer(t *testing.T) {
	for name, c := range map[string]struct {
		end            func(c *net.TCPConn)
		receive, after string
	}{
		"sends no more": {func(c *net.TCPConn) { _ = c.CloseWrite() }, "received 0 <nil>", "sent 1 <nil>"},
		"resets":        {func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, "received 0 connection reset by peer", "sent 0 broken pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			eachSetup(t, func(t *testing.T, cfg reactor.Config) {
				g := start(t, cfg)
				r := g.Reactor(0)
				p := newPair(t, r)
				defer p.peer.Close()
				on(t, r, func() { p.s.Recv(make([]byte, 10)) })
				c.end(p.peer)
				p.want(t, c.receive)
				on(t, r, func() { p.s.Send([][]byte{{1}}) })
				p.want(t, c.after)
				on(t, r, func() { p.s.Close() })
				<-p.closed
			})
		})
	}
}

// A descriptor from Go's net package, or from a parent process, may be non-blocking: io_uring would answer EAGAIN for ever.
func TestNonBlockingDescriptorsWait(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Idle = reactor.Interrupt
		g := start(t, cfg)
		r := g.Reactor(0)
		lfd, err := reactor.ListenTCP(netip.MustParseAddrPort("[::1]:0"))
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.SetNonblock(lfd, true)
		sa, _ := unix.Getsockname(lfd)
		heard := make(chan string, 10)
		ended := make(chan error)
		var l *reactor.Listener
		var s *reactor.Socket
		on(t, r, func() {
			l = r.Listen(lfd, &listenFuncs{func(fd int) {
				_ = unix.SetNonblock(fd, true)
				s = r.NewSocket(fd, &sockFuncs{
					received: func(n int, err error) { heard <- fmt.Sprint(n, err) },
					closed:   func() { heard <- "closed" },
				})
				s.Recv(make([]byte, 10))
				l.Close()
			}, func(err error) { ended <- err }})
		})
		awaitSleep(r)
		c := dial(t, reactor.AddrPort(sa))
		defer c.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		awaitSleep(r)
		_, _ = c.Write([]byte("abc"))
		if got := <-heard; got != "3 <nil>" {
			t.Errorf("heard %q", got)
		}
		on(t, r, func() { s.Close() })
		if got := <-heard; got != "closed" {
			t.Errorf("heard %q", got)
		}
	})
}

func TestDetachedSocketGoesOnElsewhere(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2)})
	from, to := g.Reactor(0), g.Reactor(1)
	checkFrom, checkTo := sameResources(t, from), sameResources(t, to)
	p := newPair(t, from)
	var fd int
	on(t, from, func() { fd = p.s.Detach() })
	closed := make(chan struct{})
	on(t, to, func() { newEcho(to, fd, func() { close(closed) }) })
	var b [5]byte
	_, _ = p.peer.Write([]byte("moved"))
	if _, err := io.ReadFull(p.peer, b[:]); err != nil || string(b[:]) != "moved" {
		t.Errorf("%q, %v", b, err)
	}
	_ = p.peer.Close()
	<-closed
	checkFrom()
	checkTo()
}

// With no descriptor to give, accepting rests, and goes on when there is one.
func TestListenerOutlivesAFullTableOfDescriptors(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		g := start(t, cfg)
		r := g.Reactor(0)
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		lfd, err := reactor.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		sa, _ := unix.Getsockname(lfd)

		var limit, low unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		low = limit
		low.Cur = 200
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		var fill []int
		free := sync.OnceFunc(func() {
			for _, fd := range fill {
				_ = unix.Close(fd)
			}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Error(err)
			}
		})
		defer free()
		for {
			fd, err := unix.Dup(client)
			if err != nil {
				break
			}
			fill = append(fill, fd)
		}

		accepted, ended := make(chan int, 1), make(chan error, 1)
		var l *reactor.Listener
		on(t, r, func() {
			l = r.Listen(lfd, &listenFuncs{func(fd int) { accepted <- fd }, func(err error) { ended <- err }})
		})
		if err := unix.Connect(client, sa); err != nil {
			t.Fatal(err)
		}
		for failures := uint64(0); failures == 0; {
			on(t, r, func() {
				var last error
				if failures, last = l.Failures(); failures > 0 && !errors.Is(last, syscall.EMFILE) {
					t.Errorf("failed because of %v", last)
				}
			})
		}
		free()
		_ = unix.Close(<-accepted)
		_ = unix.Close(client)
		on(t, r, func() { l.Close() })
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestListenerOnSomethingElseEnds(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	check := sameResources(t, r)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	on(t, r, func() { r.Listen(fd, &listenFuncs{nil, func(err error) { go func() { ended <- err }() }}) })
	if err := <-ended; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("accepting on a socket that does not listen ended with %v", err)
	}
	check()
}

func TestConnect(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		g := start(t, cfg)
		r := g.Reactor(0)
		check := sameResources(t, r)
		connect := func(addr netip.AddrPort, cancel bool) (fd int, err error) {
			type end struct {
				fd  int
				err error
			}
			ends := make(chan end)
			var c *reactor.Connector
			on(t, r, func() {
				c, err = r.Connect(addr, dialed(func(fd int, err error) { go func() { ends <- end{fd, err} }() }))
			})
			if err != nil {
				t.Fatal(err)
			}
			if cancel {
				on(t, r, func() { c.Cancel() })
			}
			e := <-ends
			on(t, r, func() { c.Cancel() }) // too late, and harmless
			return e.fd, e.err
		}

		closed := make(chan struct{})
		addr, stop := serve(t, r, func(fd int) { newEcho(r, fd, func() { close(closed) }) })
		fd, err := connect(addr, false)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
		<-closed
		stop()
		if fd, err := connect(addr, false); fd != -1 || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("where nobody listens: %d, %v", fd, err)
		}

		// A listener whose queue is full lets the next one wait.
		full, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(unix.Bind(full, reactor.Sockaddr(netip.MustParseAddrPort("[::1]:0"))), unix.Listen(full, 0)); err != nil {
			t.Fatal(err)
		}
		sa, _ := unix.Getsockname(full)
		waits := reactor.AddrPort(sa)
		fd, err = connect(waits, false)
		if err != nil {
			t.Fatal(err)
		}
		if fd, err := connect(waits, true); fd != -1 || !errors.Is(err, syscall.ECANCELED) {
			t.Errorf("cancelled: %d, %v", fd, err)
		}
		_, _ = unix.Close(fd), unix.Close(full)
		check()

		on(t, r, func() {
			if _, err := r.Connect(netip.MustParseAddrPort("[fe80::1%no-such-interface]:1"), nil); err == nil {
				t.Error("a zone that is none was taken")
			}
		})
		check()
	})
}

func TestAddressesConvertBothWays(t *testing.T) {
	for _, s := range []string{"127.0.0.1:4420", "[::1]:3260", "[fe80::1%1]:80", "0.0.0.0:0"} {
		a := netip.MustParseAddrPort(s)
		if got := reactor.AddrPort(reactor.Sockaddr(a)); got != netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()) {
			t.Errorf("%v became %v", a, got)
		}
	}
	if got := reactor.AddrPort(reactor.Sockaddr(netip.MustParseAddrPort("[::ffff:10.0.0.1]:1"))); got.String() != "10.0.0.1:1" {
		t.Errorf("a mapped address became %v", got)
	}
	if got := reactor.AddrPort(&unix.SockaddrUnix{Name: "x"}); got.IsValid() {
		t.Errorf("a unix address became %v", got)
	}
	if _, err := reactor.ListenTCP(netip.MustParseAddrPort("192.0.2.1:1")); err == nil {
		t.Error("listening on an address of nobody here")
	}
}

// bounce sends a word to and fro between two sockets of one reactor.
type bounce struct {
	s    *reactor.Socket
	in   []byte
	out  [][]byte
	left *int
	done chan struct{}
}

func (b *bounce) Received(int, error) {
	if *b.left--; *b.left == 0 {
		close(b.done)
		return
	}
	b.s.Recv(b.in)
	b.s.Send(b.out)
}
func (b *bounce) Sent(int, error) {}
func (b *bounce) Closed()         {}

func TestSocketsAllocateNothing(t *testing.T) {
	g := start(t, reactor.Config{Idle: reactor.Poll})
	r := g.Reactor(0)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 20000
	left, done := 100, make(chan struct{})
	var ends [2]*bounce
	on(t, r, func() {
		for i := range ends {
			b := &bounce{in: make([]byte, 64), out: [][]byte{{1}, {2}}, left: &left, done: done}
			b.s = r.NewSocket(fds[i], b)
			ends[i] = b
			b.s.Recv(b.in)
		}
		ends[0].s.Send(ends[0].out)
	})
	<-done // warm
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	left, done = rounds, make(chan struct{})
	on(t, r, func() {
		for _, b := range ends {
			b.done = done
			if !b.s.Receiving() {
				b.s.Recv(b.in)
			}
		}
		ends[0].s.Send(ends[0].out)
	})
	<-done
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > rounds/100 {
		t.Errorf("%d allocations in %d hops", n, rounds)
	}
	on(t, r, func() { ends[0].s.Close(); ends[1].s.Close() })
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
