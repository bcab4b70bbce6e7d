package ctl

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"syscall"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// Sock are the options of the sockets that carry NVMe/TCP and iSCSI. There is one kind here, uring; posix is another name for
// it, since most scripts say that. Options of ssl are taken, because every saved configuration of SPDK holds them, and lead
// nowhere.
type Sock struct {
	mu         sync.Mutex
	uring, ssl api.SockOptions
	chosen     api.SockOptions // of uring, what was set by a call: it is saved, and takes effect as far as it can
	group      *reactor.Group
	log        *slog.Logger
	impl       string // as it was chosen last: uring or posix
	sslSet     bool   // there is something of ssl to be saved
}

// NewSock makes the options SPDK begins with (module/sock/uring) and registers the methods about them.
func NewSock(r *Registry, g *reactor.Group, log *slog.Logger) *Sock {
	s := &Sock{group: g, log: log, impl: "uring", uring: api.SockOptions{
		RecvBufSize: new(uint32(2 << 20)), SendBufSize: new(uint32(2 << 20)),
		EnableRecvPipe: new(true), EnableQuickack: new(false), EnablePlacementID: new(uint32(0)),
		EnableZerocopySendServer: new(false), EnableZerocopySendClient: new(false), ZerocopyThreshold: new(uint32(0)),
		TLSVersion: new(uint32(0)), EnableKTLS: new(false),
	}}
	s.ssl = s.uring
	RegisterDo(r, api.SockSetDefaultImpl, func(_ context.Context, p *api.SockImplParams) error {
		if p.ImplName == "ssl" {
			return api.Errno(syscall.EINVAL, "use the sockets ssl: they are not offered here; use uring")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.impl = p.ImplName
		return nil
	})
	Register(r, api.SockGetDefaultImpl, func(context.Context, *api.None) (api.SockImpl, error) {
		return api.SockImpl{ImplName: "uring"}, nil
	})
	Register(r, api.SockImplGetOptions, func(_ context.Context, p *api.SockImplParams) (api.SockOptions, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return *s.of(p.ImplName), nil
	})
	RegisterDo(r, api.SockImplSetOptions, func(_ context.Context, p *api.SockImplSetOptionsParams) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		overlay(s.of(p.ImplName), &p.SockOptions)
		if p.ImplName == "ssl" {
			s.sslSet = true
			return nil
		}
		overlay(&s.chosen, &p.SockOptions)
		return s.tune()
	})
	return s
}

// placementCPU is the placement id that means the CPU which receives a connection's packets; SPDK's others (1, by the interrupt's id; 3, by a
// mark) have no effect here.
const placementCPU = 2

// tune gives the reactors what was chosen: the sizes of the buffers, quick acknowledgements, and where connections are placed. The rest has
// no effect here. The lock is held.
func (s *Sock) tune() error {
	var want reactor.SocketOptions
	if c := &s.chosen; c.RecvBufSize != nil {
		want.RecvBytes = int(min(*c.RecvBufSize, math.MaxInt32))
	}
	if c := &s.chosen; c.SendBufSize != nil {
		want.SendBytes = int(min(*c.SendBufSize, math.MaxInt32))
	}
	want.QuickAck = s.chosen.EnableQuickack != nil && *s.chosen.EnableQuickack
	want.ByCPU = s.chosen.EnablePlacementID != nil && *s.chosen.EnablePlacementID == placementCPU
	got, err := s.group.SetSockets(want)
	if err != nil {
		return fmt.Errorf("set the options of sockets: %w", err)
	}
	if got.RecvBytes != want.RecvBytes || got.SendBytes != want.SendBytes {
		s.log.Warn("the kernel does not allow socket buffers of this size, and tunes them itself; raise net.core.rmem_max and wmem_max, or give the engine CAP_NET_ADMIN",
			"recv_buf_size", want.RecvBytes, "send_buf_size", want.SendBytes)
	}
	return nil
}

func (s *Sock) of(impl string) *api.SockOptions {
	if impl == "ssl" {
		return &s.ssl
	}
	return &s.uring
}

// overlay sets the options that are given, and leaves the others.
func overlay(options, given *api.SockOptions) {
	to, from := reflect.ValueOf(options).Elem(), reflect.ValueOf(given).Elem()
	for i := range from.NumField() {
		if !from.Field(i).IsNil() {
			to.Field(i).Set(from.Field(i))
		}
	}
}

// Options are the options in force; every pointer is set.
func (s *Sock) Options() api.SockOptions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uring
}

// Subsystem is the options as a part of the engine.
func (s *Sock) Subsystem() Subsystem {
	return Subsystem{Name: "sock", Config: func(context.Context) ([]api.ConfigCall, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		calls := []api.ConfigCall{api.SockSetDefaultImpl.Config(api.SockImplParams{ImplName: s.impl})}
		if s.sslSet {
			calls = append(calls, api.SockImplSetOptions.Config(api.SockImplSetOptionsParams{ImplName: "ssl", SockOptions: s.ssl}))
		}
		if s.chosen != (api.SockOptions{}) {
			calls = append(calls, api.SockImplSetOptions.Config(api.SockImplSetOptionsParams{ImplName: s.impl, SockOptions: s.chosen}))
		}
		return calls, nil
	}}
}
