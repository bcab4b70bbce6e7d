package nvmf_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

// Where it is chosen, a queue goes to the reactor on whose core its packets come in: on loopback that is the sender's core. Otherwise
// equals take turns.
func TestQueuesGoWhereTheirPacketsComeIn(t *testing.T) {
	core := reactor.DefaultCores()[0]
	ended := make(chan struct{})
	go func() { // on a thread of its own, which ends with it
		defer close(ended)
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Error(err)
			return
		}
		for _, by := range []bool{false, true} {
			e := nvmftest.Start(t, nvmftest.Options{Cores: []int{-1, core}})
			if _, err := e.Group.SetSockets(reactor.SocketOptions{ByCPU: by}); err != nil {
				t.Error(err)
			}
			on := [2]int{}
			for range 6 {
				a := nvmftest.Admin(t, e.Addr)
				nvmftest.Queue(t, e.Addr, a, 1, 32)
				on[reactorOf(e, a.CNTLID, 1)]++
			}
			if want := map[bool][2]int{false: {3, 3}, true: {0, 6}}[by]; on != want {
				t.Errorf("by CPU %v: queues on the reactors: %v, want %v", by, on, want)
			}
			// Queues of one controller spread all the same.
			a := nvmftest.Admin(t, e.Addr)
			on = [2]int{}
			for qid := nvmf.QID(1); qid <= 4; qid++ {
				nvmftest.Queue(t, e.Addr, a, qid, 32)
				on[reactorOf(e, a.CNTLID, qid)]++
			}
			if on != [2]int{2, 2} {
				t.Errorf("by CPU %v: queues of one controller: %v", by, on)
			}
		}
	}()
	<-ended
}
