package reactor

import "testing"

func TestReceiveBuffersLeaveMostOfThePool(t *testing.T) {
	const n, least = 64 << 10, 8192
	m := newPool(t, 8<<20)
	var all [][]byte
	for range 40 {
		all = append(all, m.GetReceive(n, least))
	}
	for i, b := range all {
		if own := i < 32; m.Owns(b) != own || own && len(b) != n || !own && len(b) != least {
			t.Errorf("buffer %d: %d bytes, of the pool: %t", i, len(b), m.Owns(b))
		}
	}
	if m.inUse != 2<<20 {
		t.Errorf("%d bytes of 8 MiB are receive buffers", m.inUse)
	}
	for _, b := range all {
		m.PutReceive(b)
	}
	if m.inUse != 0 || m.receiving != 0 {
		t.Errorf("all are back: %d bytes are lent, %d for receiving", m.inUse, m.receiving)
	}
	if b := m.GetReceive(n, least); !m.Owns(b) {
		t.Error("no buffer of the pool where there is room again")
	}
	for b := m.Get(n); b != nil; b = m.Get(n) {
	}
	if b := m.GetReceive(n, least); len(b) != least {
		t.Errorf("%d bytes of a pool that is used up", len(b))
	}
}
