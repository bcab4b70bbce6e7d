package iscsi

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the socket of a session: it moves bytes between it, the Conn and the tasks, and holds no rule of the protocol that those could hold.
//
// Down: Received → Conn.Next → session.pdu, dataEnd. Up: session.send → fill → Sent → session.release. What gathered in a tick leaves in one send; a
// PDU gets its numbers when it is put into that send, in the order in which it leaves.

// tcp is the connection of a session.
type tcp struct {
	sock *reactor.Socket
	conn Conn
	gone bool // the socket is closed

	placing *task // whose data arrives now; nil to throw it away
	final   bool  // and it is the last of its burst
	stalled *task // whose data has come and waits for memory, and the connection with it
	carried uint32
	starved bool // the connection waits for a slot

	owing       int           // bursts that the initiator owes data of
	owed        uint64        // bytes of them
	midway      bool          // and the rest of a request, which counts as one
	midwaySince reactor.Ticks // when some of it came last, by the session's patience
	restsSince  reactor.Ticks // while we do not receive: since when
	rested      reactor.Ticks // how long we did not, before that
	asking      []asked       // R2Ts in the send
	askingHead  int           // of them, those that have left
	taken       reactor.Ticks // when it last took something, or was sent something after it had taken all
	late        reactor.Timer

	out      []outItem
	outHead  int
	vec      [][]byte // what is being sent
	vecHead  int
	heads    *[headsMax][headBytes]byte
	headsOut int
	sent     []*task // those whose last byte is in vec
	last     bool    // the connection is closed when all of out has left; nothing more is read
	flush    reactor.Deferred
	resuming reactor.Deferred
}

// headsMax PDUs leave in one send at most. A head holds a header, its digest, and what follows the data; or a response with all of its sense.
const (
	headsMax  = 48
	headBytes = 192
)

// outItem is something that is to be sent.
type outItem struct {
	kind outKind
	t    *task
	raw  []byte
	num  uint32
}

type outKind uint8

const (
	outRaw    outKind = iota // a whole PDU, as it is: during the login
	outAnswer                // the answer to a task, its data before it
	outR2T                   // num is the use of the task's slot
	outReject                // raw is the header that is rejected, num the reason
	outPing                  // a NOP-In of our own, num its TTT
	outAsync                 // num is the event, with Parameter3 above it
)

// attach takes a socket over.
func (s *session) attach(fd, size int) {
	s.conn.Init(s.r.Memory().GetReceive(size, recvBytesSmall))
	s.conn.Limits(recvDataMax)
	s.heads = new([headsMax][headBytes]byte)
	s.vec = make([][]byte, 0, reactor.SendVecMax)
	s.sock = s.pg.r.NewSocket(fd, s)
	s.heard = s.r.Now()
}

// recvDataMax is our MaxRecvDataSegmentLength; of a login it is 8192 (RFC 7143 section 13.12), and the machine judges that.
const recvDataMax = 256 << 10

// tuneTCP sets the options of an accepted connection: small PDUs leave at once, and an initiator that takes nothing of what it is sent is given up as
// soon as one that does not send what it was asked for; both hold memory. tcp(7), TCP_USER_TIMEOUT: it counts while a window is closed too.
func tuneTCP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.data/reactor.Millisecond))
}

// endpoints gives the two ends of a connection.
func (pg *pollGroup) endpoints(fd int) (local, remote netip.AddrPort) {
	l, _ := unix.Getsockname(fd)
	r, _ := unix.Getpeername(fd)
	return reactor.AddrPort(l), reactor.AddrPort(r)
}

// receive asks for more, unless the connection is held up or ends.
func (s *session) receive() {
	if s.sock.Open() && !s.sock.Receiving() && !s.held() && s.state != sessionEntering {
		s.sock.Recv(s.conn.Room())
	}
}

// Received takes what the initiator sent.
func (s *session) Received(n int, err error) {
	switch {
	case errors.Is(err, syscall.EAGAIN):
		s.receive()
		return
	case err != nil || n == 0:
		s.close()
		return
	case s.last:
		s.sock.Recv(s.conn.Buffer()) // nothing is read any more, but for the end
		return
	}
	s.fed()
	s.conn.Feed(n)
	s.arrive()
}

// arrive works off what has arrived, until there is no more or something has to be waited for.
func (s *session) arrive() {
	for s.state < sessionClosing && s.state != sessionEntering && s.stalled == nil && !s.last {
		if s.conn.Between() && !s.hasSlot() {
			return
		}
		switch s.conn.Next() {
		case ArrivedNothing:
			s.amidst()
			s.receive()
			return
		case ArrivedPDU:
			s.pdu()
		case ArrivedDataMore:
			s.conn.Discard() // more than the command moves: it counts as residual
		case ArrivedDataEnd:
			s.whole()
			if s.text != nil {
				s.textEnd()
			} else {
				s.dataEnd()
			}
		case ArrivedFault:
			f := FailureProtocol
			if s.conn.Fault == FaultHeaderDigest {
				f = FailureDigest
			}
			s.faultOf(f, s.conn.Fault.Error())
		}
	}
}

// send queues an item; all leave together at the end of the tick.
func (s *session) send(i outItem) {
	if s.state >= sessionClosing || s.last && i.kind != outRaw {
		if i.kind == outAnswer {
			s.release(i.t)
		}
		return
	}
	s.out = append(s.out, i)
	if !s.sock.Sending() {
		s.r.AtFlush(&s.flush, (*tcpFlush)(s))
	}
}

type tcpFlush session

// Run sends what has gathered.
func (f *tcpFlush) Run() {
	s := (*session)(f)
	if !s.sock.Open() || s.sock.Sending() {
		return
	}
	if s.vecHead == len(s.vec) {
		s.fill()
	}
	if s.vecHead == len(s.vec) {
		return
	}
	s.taken = s.r.Now()
	s.sock.Send(s.vec[s.vecHead:])
}

// fill makes the next send of what is at the front.
func (s *session) fill() {
	s.vec, s.vecHead, s.headsOut = s.vec[:0], 0, 0
	s.asking, s.askingHead = s.asking[:0], 0
	for s.outHead < len(s.out) && s.headsOut < headsMax && len(s.vec)+3 <= cap(s.vec) {
		if s.emit(&s.out[s.outHead]) {
			s.out[s.outHead] = outItem{}
			s.outHead++
		}
	}
	// The queue never grows past what its tasks need at once: it starts again at the front.
	if s.outHead == len(s.out) {
		s.out, s.outHead = s.out[:0], 0
	} else if s.outHead > len(s.out)/2 {
		n := copy(s.out, s.out[s.outHead:])
		clear(s.out[n:])
		s.out, s.outHead = s.out[:n], 0
	}
}

// Sent counts off what has left, and releases the tasks whose last byte that was.
func (s *session) Sent(n int, err error) {
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		s.close()
		return
	}
	for n > 0 {
		if b := s.vec[s.vecHead]; n < len(b) {
			s.vec[s.vecHead] = b[n:]
			n = 0
		} else {
			n -= len(b)
			s.vecHead++
		}
	}
	s.haveAsked()
	if s.vecHead == len(s.vec) {
		for i, t := range s.sent {
			s.sent[i] = nil
			s.left(t)
		}
		s.sent = s.sent[:0]
		if s.state >= sessionClosing {
			return
		}
		if s.outHead == len(s.out) {
			s.drained()
			return
		}
	}
	s.r.AtFlush(&s.flush, (*tcpFlush)(s))
}

// left hears that a task's answer has left.
func (s *session) left(t *task) {
	end := t.kind == kindLogout && t.logout == LogoutDone
	s.release(t)
	if end {
		s.close()
	}
}

// drained hears that all that was to be sent has left.
func (s *session) drained() {
	switch {
	case s.last:
		s.close()
	case s.state == sessionEntering:
		s.depart()
	}
}

// resume goes on receiving when something is there that it was put off for.
func (s *session) resume() {
	if !s.resuming.Queued() {
		s.r.Defer(&s.resuming, (*tcpResume)(s))
	}
}

type tcpResume session

func (t *tcpResume) Run() {
	s := (*session)(t)
	if !s.sock.Open() {
		return
	}
	if t := s.stalled; t != nil {
		if t.out <= s.params.FirstBurst { // there may be a spare
			s.share.Forget(&t.loan)
			(*stalledRun)(s).Run()
		}
		return
	}
	s.arrive()
}

// shut closes the socket.
func (s *session) shut() {
	s.r.StopTimer(&s.late)
	if t := s.stalled; t != nil {
		s.share.Forget(&t.loan)
		s.stalled = nil
	}
	s.sock.Close()
}

// Closed hears that nothing of the socket is in flight: the memory of tasks is theirs alone again.
func (s *session) Closed() {
	s.gone, s.placing, s.starved = true, nil, false
	s.asking, s.askingHead = s.asking[:0], 0
	s.r.Memory().PutReceive(s.conn.Buffer())
	s.out, s.outHead, s.vec, s.vecHead = s.out[:0], 0, s.vec[:0], 0
	s.sent = s.sent[:0]
	for i := range s.tasks {
		t := &s.tasks[i]
		switch t.state {
		case taskGathering:
			s.share.Forget(&t.loan)
			s.release(t)
		case taskAnswering:
			s.release(t)
		case taskExecuting:
			if s.share.Forget(&t.loan) { // it has not begun
				s.release(t)
			}
		}
	}
	s.closeIfDone()
}

// head gives the next head of the send that is being made.
func (s *session) head() []byte {
	invariant.Check(s.headsOut < headsMax, "iscsi: more PDUs in a send than there is room for")
	s.headsOut++
	return s.heads[s.headsOut-1][:0]
}
