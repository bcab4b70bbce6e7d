package rdmatest

import (
	"testing"
)

func TestAnInlineSendTakesWhatWasThereAtThePost(t *testing.T) {
	r := plainRig(t)
	b := []byte("inline, and not registered")
	r.host.post(r.host.inline(1, b)) // it waits: there is no receive
	clear(b)
	r.hs.exactly()
	r.target.recv(2, 0, 64)
	r.ts.exactly(well(2))
	r.hs.exactly(well(1))
	if got := string(r.ts.mem[:26]); got != "inline, and not registered" {
		t.Fatalf("received %q", got)
	}
}
