package ctl

import (
	"context"
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

// Server answers calls on a unix socket.
type Server struct {
	reg    *Registry
	log    *slog.Logger
	socket *socket

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
	s := &Server{
		reg: reg, log: log, socket: socket,
		places: make(chan struct{}, connMax),
		conns:  map[*conn]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wait.Go(s.accept)
	return s, nil
}

// Close takes no more calls, ends the waits of those under way, delivers their answers, and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	err := s.socket.closeListener()
	s.mu.Lock()
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()
	s.wait.Wait()
	return errors.Join(err, s.socket.unlock())
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
		sock, err := s.socket.listener.AcceptUnix()
		if err != nil {
			<-s.places
			if s.ctx.Err() != nil {
				return
			}
			s.log.Error("accept a client on the control socket", "socket", s.socket.path, "error", err)
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

func (s *Server) add(sock *net.UnixConn) {
	c := newConn(s, sock)
	s.mu.Lock()
	s.conns[c] = true
	if s.ctx.Err() != nil {
		c.stop() // Close has gone through the list already
	}
	s.mu.Unlock()
	s.wait.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		<-s.places
	})
}
