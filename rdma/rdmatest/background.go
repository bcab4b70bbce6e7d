package rdmatest

// InBackground lets a goroutine carry out what is posted, until stop is called: then Post does not, and completions come at any time.
func (f *Fabric) InBackground() (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.background = true
	f.ended = make(chan struct{})
	go f.carryOn()
	return f.stopBackground
}

func (f *Fabric) carryOn() {
	defer close(f.ended)
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.background {
		if f.turn() {
			f.mu.Unlock() // others may look in between two turns
			f.mu.Lock()
			continue
		}
		f.work.Wait()
	}
}

func (f *Fabric) stopBackground() {
	f.mu.Lock()
	f.background = false
	f.work.Signal()
	f.mu.Unlock()
	<-f.ended
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drain()
}
