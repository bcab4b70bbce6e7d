// Package ibverbs is the rdma.Provider over libibverbs.so.1 and librdmacm.so.1, which are opened when it is asked for: a binary starts on a
// machine that has neither, and building one needs none of their headers.
//
//	reactors            fast.go ── fast.c ──▶ the card's driver: post, poll, arm; one call into C for all that a turn has gathered
//	control goroutines  card.go, cm.go ── card.c, cm.c ──▶ libibverbs, librdmacm
//
// Cards are those of rdma_get_devices(3), in the contexts that librdmacm itself uses: a connection can only have queues of the same context.
//
// Invariants
//   - C gets no memory that holds Go pointers, and keeps none of Go's but what Register was given, which lies outside Go's heap.
//   - CQ, SRQ and QP are addresses of the libraries' structures, and the caller's word is taken for them. IDs are numbers that are never used
//     again: an event that was read before Destroy means nobody else after it.
//   - No thread waits for an event: descriptors do not block, and Go's poller watches them.
//   - An event is copied and acknowledged in one call into C. Destroying what it is about waits for the acknowledgement.
//   - What librdmacm does to a queue pair while an event is read, and destroying that queue pair, exclude each other (cm.mu); so do reading an event
//     of a card and destroying what is on it (device.mu). Who reads an event of a card gives it to the other providers of the process that it concerns.
//
// Without cgo, Open answers that it takes one.
package ibverbs
