package ctl

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// This file is the control socket's server; rpc_socket.go makes the socket, rpc_conn.go serves one connection of it, and
// rpc_message.go knows what a request and an answer look like.
//
// The server is ours because the one of jrpc2, which was tried first, differs where tools can see it: it answers a batch
// in the order of its requests, goes on after text that is not JSON, bounds neither a request nor an answer nor the number
// of connections, and takes any method name that begins with "rpc." for itself. Its client proves ours (rpc_jrpc2_test.go).

// Limits of the socket. Where SPDK has one it is the same (lib/jsonrpc/jsonrpc_internal.h).
const (
	requestBytesMax = 256 << 10
	requestValueMax = 8192 // as SPDK counts them; api.ParseJSON says how
	idBytesMax      = 128
	answerBytesMax  = 32 << 20
	connMax         = 64
	// requestMax bounds the requests of one connection that are under way; the next one is not read until one is answered.
	requestMax = 128
)

// lastAnswers is how long a stopping server waits for clients to take the answers it still has for them.
const lastAnswers = 5 * time.Second

// Server answers calls on a unix socket, or on a TCP address (rpc_tls.go).
type Server struct {
	reg      *Registry
	log      *slog.Logger
	listener net.Listener
	where    string
	socket   *socket            // nil for TCP
	tls      func() *tls.Config // for the next connection; nil for the unix socket

	ctx    context.Context // ends when the server stops
	cancel context.CancelFunc
	places chan struct{} // one for each connection
	wait   sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]bool
}

// Listen makes the socket at path and begins to answer.
func Listen(path string, reg *Registry, log *slog.Logger) (*Server, error) {
	socket, err := openSocket(path)
	if err != nil {
		return nil, err
	}
	s := newServer(reg, log, socket.listener, path)
	s.socket = socket
	s.wait.Go(s.accept)
	return s, nil
}

func newServer(reg *Registry, log *slog.Logger, listener net.Listener, where string) *Server {
	s := &Server{
		reg: reg, log: log, listener: listener, where: where,
		places: make(chan struct{}, connMax),
		conns:  map[*conn]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close takes no more calls, ends the waits of those under way, delivers their answers, and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close() // which removes a unix socket as well
	s.mu.Lock()
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()
	s.wait.Wait()
	if s.socket != nil {
		err = errors.Join(err, s.socket.unlock())
	}
	return err
}

// accept takes a connection only while there is a place for it. Until then the next ones wait in the kernel, as they do
// with SPDK: a burst of short-lived clients then succeeds where a refusal would fail some of them.
func (s *Server) accept() {
	for {
		select {
		case s.places <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		sock, err := s.listener.Accept()
		if err != nil {
			<-s.places
			if s.ctx.Err() != nil {
				return
			}
			s.log.Error("accept a client on the control socket", "socket", s.where, "error", err)
			select {
			case <-time.After(time.Second): // no descriptors, most likely; others may be closed meanwhile
				continue
			case <-s.ctx.Done():
				return
			}
		}
		s.add(sock)
	}
}

func (s *Server) add(sock net.Conn) {
	c := newConn(s, sock.(socketConn))
	var secure *tls.Config
	if s.tls != nil {
		secure = s.tls()
	}
	s.mu.Lock()
	s.conns[c] = true
	if s.ctx.Err() != nil {
		c.stop() // Close has gone through the list already
	}
	s.mu.Unlock()
	s.wait.Go(func() {
		c.serve(secure)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		<-s.places
	})
}
