package rdmatest

import "testing"

func TestContract(t *testing.T) {
	for _, c := range []struct {
		name           string
		server, client Options
		in             func(*Fabric) (stop func())
	}{
		{name: "own receives"},
		{name: "shared receives", server: Options{SRQDepth: 64}},
		{name: "keys cannot be invalidated, private data are exact", client: Options{NoInvalidate: true, ExactPrivate: true}, server: Options{ExactPrivate: true, SRQDepth: 64}},
		{name: "in background", server: Options{SRQDepth: 64}, in: (*Fabric).InBackground},
	} {
		t.Run(c.name, func(t *testing.T) {
			Contract(t, func(t *testing.T) Ends {
				e := LoopbackEnds(c.server, c.client)
				if c.in != nil {
					t.Cleanup(c.in(e.Server.(*Provider).f))
				}
				return e
			})
		})
	}
	t.Run("one provider, two cards", func(t *testing.T) {
		Contract(t, func(t *testing.T) Ends {
			e := LoopbackEnds(Options{Cards: 2, SRQDepth: 64}, Options{})
			e.Client = e.Server
			e.ClientCard, e.From = "server1", e.Server.(*Provider).cards[1].address
			return e
		})
	})
	t.Run("RDMA READs are late", func(t *testing.T) {
		Contract(t, func(t *testing.T) Ends {
			e := LoopbackEnds(Options{SRQDepth: 64}, Options{})
			e.Client.(*Provider).ReadsLate(true)
			return e
		})
	})
}
