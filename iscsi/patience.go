package iscsi

import "github.com/pollux-storage/pollux/reactor"

// patience is how long an initiator is waited for.
var patience = struct {
	login  reactor.Ticks // until a connection is a session
	data   reactor.Ticks // for the data of a write that it was asked for, or that it announced
	wanted reactor.Ticks // the same, while others wait for memory
	logout reactor.Ticks // to log out, after it was asked to

	discovery reactor.Ticks // for the next request of a discovery session

	beside uint64 // bytes that who owes them is waited for longer, by as long again
}{
	login:  30 * reactor.Second,
	data:   30 * reactor.Second,
	wanted: 5 * reactor.Second,
	logout: 3 * reactor.Second,

	discovery: 60 * reactor.Second,

	beside: 32 << 20, // a link of 10 Mbit/s takes them in 30 s
}
