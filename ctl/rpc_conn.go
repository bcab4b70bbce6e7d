package ctl

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/ctl/api"
)

// conn is one client's connection. One goroutine reads; each request is answered by one of its own, so that a slow one
// holds nobody up.
type conn struct {
	server *Server
	sock   socketConn
	stream net.Conn // sock, or TLS on it
	who    string
	role   api.Role
	// patience is how long a client may take nothing of an answer; 0 is as long as it likes.
	patience time.Duration

	ctx    context.Context // ends when nobody is there any more to hear an answer
	cancel context.CancelFunc
	open   chan struct{} // one for each request under way
	wait   sync.WaitGroup

	write sync.Mutex // one answer at a time
}

// socketConn is what unix and TCP connections have in common.
type socketConn interface {
	net.Conn
	syscall.Conn
	CloseRead() error
}

func newConn(s *Server, sock socketConn) *conn {
	c := &conn{server: s, sock: sock, stream: sock, open: make(chan struct{}, requestMax)}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	return c
}

// peerOf names the process at the other end, as the kernel knows it.
func peerOf(sock socketConn) string {
	who := "unknown"
	raw, err := sock.SyscallConn()
	if err != nil {
		return who
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = fmt.Sprintf("uid %d, process %d", cred.Uid, cred.Pid)
		}
	})
	return who
}

// stop makes serve end when the requests under way are answered.
func (c *conn) stop() {
	_ = c.sock.CloseRead()
	_ = c.sock.SetWriteDeadline(time.Now().Add(lastAnswers))
}

// serve answers requests until the client stops sending. A client that has sent its last request and waits, its sending
// side shut down, gets all its answers; SPDK drops them.
func (c *conn) serve(secure *tls.Config) {
	defer c.sock.Close()
	defer c.cancel()
	if secure == nil {
		c.who, c.role = peerOf(c.sock), api.Admin // who can open the unix socket may do all
	} else {
		if err := c.greet(secure); err != nil {
			c.server.log.Warn("a client is not let in to the control socket", "socket", c.server.where, "client", c.sock.RemoteAddr().String(), "error", err)
			return
		}
		defer c.stream.Close()
	}
	frames := newFrames(c.stream)
	for c.ctx.Err() == nil {
		text, err := frames.next()
		if err == nil {
			err = c.accept(text)
		}
		var bad *api.Error
		if errors.As(err, &bad) {
			c.send(appendError(nil, nil, bad))
		}
		if err != nil {
			break
		}
	}
	if c.gone() {
		c.cancel()
	}
	c.wait.Wait()
}

// gone reports whether the client has closed the connection, rather than shut down its sending side.
func (c *conn) gone() bool {
	hangUp := false
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 0)
		hangUp = err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || hangUp
}

// accept begins to answer one JSON value. An error ends the connection.
func (c *conn) accept(text []byte) error {
	value, values, err := api.ParseJSON(text)
	var syntax *api.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Ambiguous:
		c.send(appendError(nil, nil, &api.Error{Code: api.CodeInvalidRequest, Message: "the request is ambiguous: " + err.Error()}))
		return nil
	case err != nil:
		return parseFailed(err)
	case values > requestValueMax:
		return &api.Error{Code: api.CodeParse, Message: fmt.Sprintf(
			"the request holds %d values, %d are allowed; divide it. The connection ends.", values, requestValueMax)}
	}
	select {
	case c.open <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	c.wait.Go(func() {
		defer func() { <-c.open }()
		if value.Kind == api.Array {
			c.send(c.batch(value.Items))
		} else {
			c.send(c.answer(&value))
		}
	})
	return nil
}

// answer carries out one request and returns the answer, nil where there is none to give.
func (c *conn) answer(value *api.Value) []byte {
	r, bad := parseRequest(value)
	if bad != nil {
		return appendError(nil, r.id, bad)
	}
	result, err := c.server.reg.do(withOrigin(c.ctx, c.who, string(r.id), c.role), r.method, r.params)
	if err != nil {
		return appendError(nil, r.id, api.AsError(err))
	}
	if r.id == nil {
		return nil
	}
	return appendResult(nil, r, result)
}

// batch carries out requests beside each other and returns one list of answers, in the order in which they were done.
func (c *conn) batch(items []api.Value) []byte {
	if len(items) == 0 {
		return appendError(nil, nil, &api.Error{Code: api.CodeInvalidRequest, Message: "the batch is empty"})
	}
	answers := make(chan []byte)
	for i := range items {
		go func() { answers <- c.answer(&items[i]) }()
	}
	var list []byte
	listBytes := 0
	for range items {
		answer := <-answers
		if answer == nil {
			continue
		}
		if listBytes += 1 + len(answer); listBytes <= answerBytesMax {
			list = append(list, ',')
			list = append(list, answer...)
		}
	}
	switch {
	case list == nil:
		return nil
	case listBytes > answerBytesMax: // what was done stays done; the client has to look
		return appendError(nil, nil, tooLong("the answers of the batch", listBytes))
	}
	list[0] = '['
	return append(list, ']')
}

// send writes one answer and its newline. A client that does not take it is gone.
func (c *conn) send(answer []byte) {
	if answer == nil {
		return
	}
	c.write.Lock()
	defer c.write.Unlock()
	if c.patience > 0 && c.server.ctx.Err() == nil { // a stopping server has set its own limit
		_ = c.sock.SetWriteDeadline(time.Now().Add(c.patience))
	}
	if _, err := c.stream.Write(append(answer, '\n')); err != nil {
		c.cancel()
	}
}

// frames cuts the stream into JSON values. They come back to back, in pieces or several at once, and nothing but their own
// syntax divides them.
type frames struct {
	in      boundedReader
	decoder *json.Decoder
}

func newFrames(r io.Reader) *frames {
	f := &frames{in: boundedReader{r: r}}
	f.decoder = json.NewDecoder(&f.in)
	return f
}

// next returns the next value's text. The error is io.EOF at the end of the stream, an *api.Error where the client is to
// hear of it, and else that of the socket.
func (f *frames) next() ([]byte, error) {
	f.in.end = f.decoder.InputOffset() + requestBytesMax
	var text json.RawMessage
	err := f.decoder.Decode(&text)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return text, nil
	case errors.As(err, &syntax):
		return nil, parseFailed(err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &api.Error{Code: api.CodeParse, Message: "the connection ended within a request"}
	}
	return nil, err
}

func parseFailed(err error) *api.Error {
	return &api.Error{Code: api.CodeParse, Message: "the request is not JSON: " + err.Error() + ". The connection ends."}
}

var errRequestTooLong = &api.Error{Code: api.CodeParse, Message: fmt.Sprintf(
	"the request is longer than the %d bytes allowed; divide it. The connection ends.", requestBytesMax)}

// boundedReader refuses to read past end, which moves with each request.
type boundedReader struct {
	r         io.Reader
	read, end int64 // offsets in the stream
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.read >= b.end {
		return 0, errRequestTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.end-b.read)])
	b.read += int64(n)
	return n, err
}
