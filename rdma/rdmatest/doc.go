// Package rdmatest is an RDMA fabric in memory, and what every rdma.Provider must do.
//
// A Fabric has providers, a provider cards, and all of them reach each other: so two engines in one process, or one that talks to itself, run
// the same code as over libibverbs. Contract is the tests that every provider passes, this one and the real one.
//
//	f := rdmatest.NewFabric()
//	target := f.Provider("target", rdmatest.Options{Cards: 2, SRQDepth: 4096})
//	host := f.Provider("host", rdmatest.Options{})
//
// What a card does is done by whoever posts, before Post returns: tests are deterministic. On request it is not done until the test says so
// (Withhold), by a goroutine (InBackground), or badly (Wound, Cut, Remove, PortDown, Events, FailNext).
//
// The fabric is stricter than cards are, so that a program that works on it works on all of them: a place in a queue, and one of the RDMA READs
// that may be in flight, is free again when a completion that says so was polled, not before; depths and keys are as they were asked for, with
// nothing to spare; and what no program may do (a completion queue overrun, too many RDMA READs, a handle that is destroyed) is a panic.
//
// Invariants
//   - One mutex, the fabric's, guards all. It is taken by Post and Poll, so memory that the "card" has written is seen by who polls.
//   - Completions of a queue are in the order of its posts. A buffer is not touched after the completion of its work request is in the
//     completion queue.
//   - Post, PostRecv, PostShared, Poll, Arm and Heard allocate nothing.
//
// Not modelled: time (nothing ever times out by itself), packets, loss that retries make good, atomics, memory windows.
package rdmatest
