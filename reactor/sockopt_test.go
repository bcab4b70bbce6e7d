package reactor

import (
	"math"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketOptions(t *testing.T) {
	var g Group
	if o := g.Sockets(); o != (SocketOptions{}) {
		t.Errorf("%+v", o)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	size := func(option int) int {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	recv, send := size(unix.SO_RCVBUF), size(unix.SO_SNDBUF)
	g.Sockets().Tune(fd)
	if size(unix.SO_RCVBUF) != recv || size(unix.SO_SNDBUF) != send {
		t.Error("a choice was made where none was given")
	}
	o, err := g.SetSockets(SocketOptions{RecvBytes: 8192, SendBytes: 16384, QuickAck: true})
	if err != nil || o != (SocketOptions{RecvBytes: 8192, SendBytes: 16384, QuickAck: true}) || g.Sockets() != o {
		t.Errorf("%+v, %v", o, err)
	}
	o.Tune(fd)
	o.TuneOpen(fd)
	if size(unix.SO_RCVBUF) != 2*8192 || size(unix.SO_SNDBUF) != 2*16384 {
		t.Errorf("%d and %d", size(unix.SO_RCVBUF), size(unix.SO_SNDBUF))
	}
	if ack, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK); err != nil || ack != 1 {
		t.Error(ack, err)
	}
	if o, err = g.SetSockets(SocketOptions{RecvBytes: math.MaxInt32}); err != nil {
		t.Error(err)
	}
	if o.RecvBytes != 0 && o.RecvBytes != math.MaxInt32 {
		t.Errorf("a size between what was asked for and the kernel's own: %+v", o)
	}
	if o, err = g.SetSockets(SocketOptions{}); err != nil || o != (SocketOptions{}) {
		t.Errorf("%+v, %v", o, err)
	}
}

// The CPU that received is told for a connection, and for what is none it is not.
func TestIncomingCPU(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cpu := -1
	if err := raw.Control(func(fd uintptr) { cpu = IncomingCPU(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	if cpu < 0 {
		t.Error("the kernel does not say on which CPU the answer to a connect was handled")
	}
	if got := IncomingCPU(-1); got != -1 {
		t.Errorf("CPU %d of no socket", got)
	}
}
