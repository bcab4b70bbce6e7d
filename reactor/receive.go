package reactor

// This file is the receive buffers of connections: of the pool, as long as they are not much of it.

// receiveShare is the part of the pool that may be receive buffers, of all targets together: the more connections there are, the more memory
// their data needs.
const receiveShare = 4

// GetReceive lends a receive buffer of n bytes, until PutReceive. Beyond the share of the pool, or when that is used up, it is one of least bytes of
// the process's memory: slower, but the connection serves.
func (m *Memory) GetReceive(n, least int) []byte {
	if b := m.GetReceiveOnly(n); b != nil {
		return b
	}
	return make([]byte, least)
}

// GetReceiveOnly is GetReceive for who needs memory of the pool: it is nil beyond the share, or when the pool is used up.
func (m *Memory) GetReceiveOnly(n int) []byte {
	if m.receiving+n > m.limit/receiveShare {
		return nil
	}
	b := m.Get(n)
	if b != nil {
		m.receiving += n
	}
	return b
}

// PutReceive takes it back.
func (m *Memory) PutReceive(b []byte) {
	if m.Owns(b) {
		m.receiving -= len(b)
		m.Put(b)
	}
}
