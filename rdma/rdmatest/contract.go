package rdmatest

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// Ends is what the contract is tested between: two providers, which may be one. Contract closes them.
type Ends struct {
	Server, Client         rdma.Provider
	ServerCard, ClientCard string     // the names of cards, the first if empty
	At                     netip.Addr // of the server's card
	From                   netip.Addr // of the client's, zero to leave it to the provider
	Alive                  func() int // the number of all objects that were made and are not destroyed, nil if it cannot be told
}

// Contract is what every provider must do. Each test gets ends of its own from open. It waits as long as a card needs, and where cards
// differ by right it takes all of what they do.
func Contract(t *testing.T, open func(t *testing.T) Ends) {
	for _, c := range []struct {
		name string
		test func(p *pair)
	}{
		{"ConnectionsCarryPrivateDataEachWay", privateData},
		{"ReadDepthsAreToldAsSeenFromThere", readDepths},
		{"ARejectionCarriesPrivateData", rejection},
		{"NobodyListens", nobodyListens},
		{"OnlyOneListensAtAnAddress", addressInUse},
		{"AListenerThatIsClosedRefusesWhoWaits", closedWhileConnecting},
		{"AnOfferOutlivesItsListener", offerOutlivesListener},
		{"WhoConnectsMayGiveUp", givenUpWhileOffered},
		{"AConnectionThatIsDestroyedIsRefused", destroyedIsRefused},
		{"TheEndOfAConnectionManagerEndsNext", closeEndsNext},
		{"DisconnectIsHeardAtBothEnds", disconnect},
		{"DestroyingAnEndDisconnects", destroyDisconnects},
		{"ManyConnectionsLeaveNothing", manyConnections},

		{"SendsArriveInOrderWithTheirLengths", sendsInOrder},
		{"SeveralPiecesAreOneMessage", pieces},
		{"SilenceUnlessSignaled", silence},
		{"InlineIsCopiedByPost", inlineIsCopied},
		{"ReadsAndWritesOfAllLengths", readsAndWrites},
		{"AWriteIsThereBeforeTheSendBehindIt", writeThenSend},
		{"AFencedSendWaitsForReads", fencedSend},
		{"ASendWaitsForAReceive", waitsForReceive},
		{"ASendWaitsNoLongerThanThePeerWants", rnrRetry},
		{"PostTakesTheDepthAndSaysWhatItTook", depth},
		{"DepthsBeyondTheCardsAreRefused", tooDeep},
		{"SharedReceivesServeAll", shared},
		{"AQueuePairThatFailsLeavesSharedReceivesToOthers", sharedAndFailed},
		{"ArmedQueuesLoseNoWakeUp", wakeUps},

		{"AFailedQueuePairFlushesInOrder", flushInOrder},
		{"AReceiveThatIsTooSmall", receiveTooSmall},
		{"RemoteMemoryIsGuarded", guarded},
		{"LocalMemoryNeedsItsKey", localKey},
		{"InvalidatedKeysOpenNothing", invalidated},
		{"TheEndOfTheProviderEndsNextEvent", closeEndsEvents},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := open(t)
			p := &pair{T: t, Ends: e}
			before := p.alive()
			p.server = newSide(t, e.Server, e.ServerCard, pairDepth*4, pairBytes)
			p.client = newSide(t, e.Client, e.ClientCard, pairDepth*4, pairBytes)
			c.test(p)
			p.server.close()
			p.client.close()
			if after := p.alive(); after != before {
				t.Errorf("%d objects are left of what the test has made and destroyed", after-before)
			}
			if err := e.Server.Close(); err != nil {
				t.Error(err)
			}
			if e.Client != e.Server {
				if err := e.Client.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

const (
	pairDepth = 32
	pairBytes = 4 << 20
)

// pair is two ends in a test of the contract.
type pair struct {
	*testing.T
	Ends
	server, client *side
}

func (p *pair) alive() int {
	if p.Alive == nil {
		return 0
	}
	return p.Alive()
}

var (
	usual  = rdma.QPConfig{SendDepth: pairDepth, RecvDepth: pairDepth, SGEs: 2, InlineBytes: 64}
	params = rdma.ConnParams{ReadsIn: 1, ReadsOut: 1, Retries: 7, RNR: 7}
)

// offer brings a connection to where it is offered to the server: both queue pairs are made, and the listener is destroyed.
func (p *pair) offer(c, s rdma.QPConfig, cp rdma.ConnParams) (client, server *link, e rdma.Event) {
	p.Helper()
	l, at := p.server.listen(p.At)
	client = p.client.resolve(p.From, at).makeQP(c)
	p.client.must(p.client.cm.Connect(client.id, cp))
	e = p.server.want(rdma.EventConnect)
	if e.Listener != l || e.Card != p.server.card || e.Local != at || e.Remote.Port() == 0 {
		p.Fatalf("the offer is %+v; want it of listener %#x at %v on %v", e, l, at, p.server.card)
	}
	server = (&link{side: p.server, id: e.ID}).makeQP(s)
	p.server.must(p.server.cm.Destroy(l))
	return client, server, e
}

// accept makes a connection of an offer. Receives can be posted before.
func (p *pair) accept(client, server *link, sp rdma.ConnParams) rdma.Event {
	p.Helper()
	p.server.must(p.server.cm.Accept(server.id, sp))
	e := p.client.want(rdma.EventEstablished)
	if own := p.server.want(rdma.EventEstablished); own.ID != server.id || e.ID != client.id {
		p.Fatal("events of other connections")
	}
	return e
}

// connect makes a connection.
func (p *pair) connect() (client, server *link) {
	p.Helper()
	client, server, _ = p.offer(usual, usual, params)
	p.accept(client, server, params)
	return client, server
}

// apart ends a connection, by the client.
func (p *pair) apart(client, server *link) {
	p.Helper()
	p.client.must(p.client.cm.Disconnect(client.id))
	p.server.must(p.server.cm.Disconnect(server.id))
	client.end()
	server.end()
	p.client.forget()
	p.server.forget()
}

// arrived wants private data, and nothing but zeros behind them.
func (p *pair) arrived(where string, got, want []byte) {
	p.Helper()
	if !bytes.HasPrefix(got, want) || len(bytes.Trim(got[len(want):], "\x00")) != 0 {
		p.Errorf("%s: private data %x, want %x and zeros", where, got, want)
	}
}

func (p *pair) same(what string, got, want []byte) {
	p.Helper()
	if !bytes.Equal(got, want) {
		p.Fatalf("%s: not what was there", what)
	}
}

// closeEndsEvents: rdma.Verbs.NextEvent.
func closeEndsEvents(p *pair) {
	for _, s := range []*side{p.client, p.server} {
		cards, err := s.p.Cards()
		s.must(err)
		var w sync.WaitGroup
		w.Go(func() {
			for _, c := range cards {
				for err := error(nil); err == nil; {
					_, err = c.NextEvent()
				}
			}
		})
		p.Cleanup(w.Wait) // after the test has closed the provider; the test run's own time limit ends a wait that is in vain
	}
}
