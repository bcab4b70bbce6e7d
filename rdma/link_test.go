package rdma_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/rdma"
)

func TestAckTimeout(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want uint8
	}{
		{0, 0}, {time.Nanosecond, 1}, {65536 * time.Nanosecond, 1}, {65537 * time.Nanosecond, 2}, // 8 * 4.096 µs * 2
		{time.Second, 15}, {2 * time.Second, 16}, {4 * time.Second, 17}, {24 * time.Hour, 31}, {1000 * time.Hour, 31},
	} {
		if got := rdma.AckTimeout(c.d); got != c.want {
			t.Errorf("%v: %d, want %d", c.d, got, c.want)
		}
	}
}

// TestWhoBeginsAConnectionSaysHowItsPacketsAreSent: but for how long the other waits for answers.
func TestWhoBeginsAConnectionSaysHowItsPacketsAreSent(t *testing.T) {
	x := newRig(t, rigOptions{})
	cfg := plain
	cfg.Link = rdma.Link{AckTimeout: 12, TOS: 8}
	l := x.target.listen(&acceptor{cfg: cfg})
	cfg.Link = rdma.Link{AckTimeout: 14, TOS: 0xb8}
	if _, _, err := x.host.dial(l, cfg); err != nil {
		t.Fatal(err)
	}
	if h, g := x.host.p.Links(), x.target.p.Links(); !slices.Equal(h, []rdma.Link{{AckTimeout: 14, TOS: 0xb8}}) || !slices.Equal(g, []rdma.Link{{AckTimeout: 12, TOS: 0xb8}}) {
		t.Errorf("the host's %+v, the target's %+v", h, g)
	}
}
