package rdma

import "time"

// Link is how packets of a connection are sent. What is 0 is the system's choice. rdma_set_option(3).
type Link struct {
	// AckTimeout is how long the card waits for an answer before it sends again: 4.096 µs * 2^AckTimeout, 31 at most. It is of one side's card.
	AckTimeout uint8
	// TOS is the type of service of IPv4, or the traffic class of IPv6: DSCP * 4. Who begins a connection decides, for both sides.
	TOS uint8
}

const (
	ackUnit       = 4096 * time.Nanosecond
	ackTimeoutMax = 31 // it has five bits: ibv_modify_qp(3), timeout
)

// AckTimeout is the shortest Link.AckTimeout with which a card gives up a peer that has not answered for d: after eight attempts. Cards may take up to
// four times as long. 0 is 0.
func AckTimeout(d time.Duration) uint8 {
	if d <= 0 {
		return 0
	}
	n := uint8(1) // 0 would be no limit
	for n < ackTimeoutMax && (1+retries)*ackUnit<<n < d {
		n++
	}
	return n
}
