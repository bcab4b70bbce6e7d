package nvmf

import "github.com/pollux-storage/pollux/reactor"

// This file is how long hosts are waited for.
var patience = struct {
	// connect is how long a connection may be without a Connect that succeeded.
	connect reactor.Ticks
	// data is how long data that was asked for may stay away, and how long a host may take nothing of what it is sent: both hold
	// memory.
	data reactor.Ticks
	// wanted is that, while others wait for memory.
	wanted reactor.Ticks
	// terminate is how long a host may take to close after a C2HTermReq. TCP Transport Specification 1.0, "Error Handling Model".
	terminate reactor.Ticks
	// soon is how soon after another an answer over RDMA may leave in silence: rdmasilent.go.
	soon reactor.Ticks
}{
	connect: 30 * reactor.Second, data: 30 * reactor.Second, wanted: 5 * reactor.Second, terminate: 30 * reactor.Second, soon: 2 * reactor.Millisecond,
} // a variable for the tests alone
