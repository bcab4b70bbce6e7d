package nvmf

import (
	"errors"
	"testing"
)

func TestTransportOptionsThatNoTransportCanHave(t *testing.T) {
	for _, c := range []struct {
		why    string
		trtype string
		change func(o *TransportOptions)
		ok     bool
	}{
		{"TCP as it is made", "TCP", func(*TransportOptions) {}, true},
		{"RDMA as it is made", "rdma", func(*TransportOptions) {}, true},
		{"a transport that is not there", "FC", func(*TransportOptions) {}, false},
		{"a queue of one entry", "RDMA", func(o *TransportOptions) { o.MaxQueueDepth = 1 }, false},
		{"an Admin queue shorter than discovery promises", "RDMA", func(o *TransportOptions) { o.MaxAdminDepth = 31 }, false},
		{"no I/O queues", "RDMA", func(o *TransportOptions) { o.MaxQueues = 0 }, false},
		{"a capsule that IOCCSZ cannot say", "RDMA", func(o *TransportOptions) { o.InCapsuleDataBytes = 4097 }, false},
		{"no data in capsules", "RDMA", func(o *TransportOptions) { o.InCapsuleDataBytes = 0 }, true},
		{"a transfer that MDTS cannot say", "RDMA", func(o *TransportOptions) { o.MaxIOBytes = 3 << 16 }, false},
		{"no keep-alive", "RDMA", func(o *TransportOptions) { o.KAS = 0 }, false},
		{"a shared receive queue for less than one queue", "RDMA", func(o *TransportOptions) { o.MaxSRQDepth = 127 }, false},
		{"none, and its depth", "RDMA", func(o *TransportOptions) { o.NoSRQ, o.MaxSRQDepth = true, 0 }, true},
		{"TCP, which has none", "TCP", func(o *TransportOptions) { o.MaxSRQDepth = 0 }, true},
	} {
		o := DefaultTransport(c.trtype)
		c.change(&o)
		err := o.check()
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}
