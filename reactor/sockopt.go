package reactor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// SocketOptions are what may be chosen of the TCP sockets that the reactors of a group use. The zero value leaves all to the kernel,
// whose own tuning of the buffers goes further than a fixed size: socket(7), SO_RCVBUF, and tcp(7), tcp_rmem.
type SocketOptions struct {
	RecvBytes, SendBytes int  // of the kernel's buffers; 0 is its own choice
	QuickAck             bool // what is received is acknowledged at once, at first: tcp(7), TCP_QUICKACK
	ByCPU                bool // who places connections on reactors is to look at IncomingCPU
}

// IncomingCPU is the CPU on which the kernel handled what a connection received last, -1 if it does not say: socket(7), SO_INCOMING_CPU.
// With a network card that gives each CPU a queue of its own, that is where the connection's packets always come in.
func IncomingCPU(fd int) int {
	cpu, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_INCOMING_CPU)
	if err != nil {
		return -1
	}
	return cpu
}

// SetSockets chooses for the sockets that are opened from now on, and gives what is in force: a size to which the kernel would not
// let this process go is left to the kernel, which tunes beyond what it allows to be set. It runs on a control goroutine.
func (g *Group) SetSockets(o SocketOptions) (SocketOptions, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return g.Sockets(), fmt.Errorf("trying socket options: %w", err)
	}
	defer unix.Close(fd)
	if !setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.RecvBytes) {
		o.RecvBytes = 0
	}
	if !setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, o.SendBytes) {
		o.SendBytes = 0
	}
	g.sockets.Store(&o)
	return o, nil
}

// Sockets gives what is in force.
func (g *Group) Sockets() SocketOptions {
	if o := g.sockets.Load(); o != nil {
		return *o
	}
	return SocketOptions{}
}

// Tune sets the buffers of a socket before it connects, or listens: those that it accepts have them too, and offer a window for them.
func (o SocketOptions) Tune(fd int) {
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.RecvBytes)
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, o.SendBytes)
}

// TuneOpen sets what holds for a connection.
func (o SocketOptions) TuneOpen(fd int) {
	if o.QuickAck {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// setBuffer sets a buffer's size, by force where this process may, and reports whether it is that. The kernel doubles what it is
// given, for its own accounts.
func setBuffer(fd, force, plain, bytes int) bool {
	if bytes <= 0 {
		return false
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) == nil {
		return true
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bytes)
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, plain)
	return err == nil && got >= 2*bytes
}
