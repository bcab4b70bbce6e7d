// Package rdma is reliable connections over RDMA on an engine's reactors: queue pairs, the memory that cards reach, and how connections come
// about. It knows nothing of what is carried.
//
// Two halves meet at Provider. Below it are the verbs and the connection manager: those of libibverbs and librdmacm (package ibverbs), or
// a fabric in memory, on which the same tests run everywhere (package rdmatest). Above it is what a protocol uses: Net, Listener and Queue.
//
//	nvmf        Listener, Queue              control goroutines      reactors
//	rdma        Net ── events of the CM ───▶ who comes, who goes     lane: CQ, SRQ, keys, what is posted at the end of a turn
//	            Provider: CM, Verbs
//	ibverbs     librdmacm, libibverbs        rdmatest: in memory
//
// A reactor has one lane for each card that is used on it: one completion queue, which it polls, and one shared receive queue. All work
// requests that gather in a turn go to the card in one call, and one call brings all completions there are.
//
// Invariants
//   - A buffer that the card was given is its own until the completion says so, or until the queue pair is flushed or destroyed. Handler.Closed is
//     called when that is so for all of a queue, and not before.
//   - Work requests of a queue are carried out in the order in which they were posted, reads aside: the card may have no more of these in
//     flight than the peer allows, and those beyond it wait, with nothing but reads of the same queue waiting behind them.
//   - A completion queue has room for all that its queue pairs may complete: a connection beyond that is refused.
//   - What runs on a reactor does not block and allocates nothing. What may block (connecting, creating, destroying, registering) runs on
//     control goroutines.
//
// Units: lengths in bytes; depths in work requests. Keys are as the card gave them.
package rdma
