package iscsi

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// pollGroup is the target on one reactor.
type pollGroup struct {
	target   *Target
	r        *reactor.Reactor
	view     *view
	count    int
	stopping bool
}

func (pg *pollGroup) install(v *view)         { pg.view = v }
func (pg *pollGroup) each(f func(s *session)) {}
func (pg *pollGroup) end()                    {}

func (pg *pollGroup) accepted(_ *portal, fd int) { _ = unix.Close(fd) }

// resized tells the sessions that use a unit of its new capacity.
func (pg *pollGroup) resized(u *Unit) {}

// session is one session of an initiator.
type session struct {
	pg     *pollGroup
	node   *Node
	params Params
	remote netip.AddrPort
}

func (s *session) close()                       {}
func (s *session) requestLogout(seconds uint16) {}

// attentions are unit attentions that a nexus has not been told of.
type attentions struct{}

// sense is what went wrong with a command.
type sense struct{}

// cdbRule says what a command needs.
type cdbRule struct{}

func (n *nodeView) admits(tag int, initiator string, from netip.Addr) *mapView { return nil }
