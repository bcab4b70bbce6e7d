package rdma

// Dials is how many connections are waited for.
func (n *Net) Dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials)
}
