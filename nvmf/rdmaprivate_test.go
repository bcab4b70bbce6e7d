package nvmf

import "testing"

// RDMA Transport Specification 1.0, "Setup & Initialization": the private data, byte for byte.
func TestRDMAPrivateData(t *testing.T) {
	r := RDMARequest{QID: 3, HRQSIZE: 128, HSQSIZE: 127, CNTLID: 0x1234}
	b := golden(t, "rdma_request")
	wantBytes(t, "request", r.AppendTo(nil), b)
	if got, why := DecodeRDMARequest(b); got != r || why != 0 {
		t.Errorf("request: %+v, %v", got, why)
	}
	if got, why := DecodeRDMARequest(append(b, make([]byte, 24)...)); got != r || why != 0 {
		t.Errorf("request with the zeros of a connection manager behind it: %+v, %v", got, why)
	}
	for n := range RDMARequestBytes {
		if _, why := DecodeRDMARequest(b[:n]); why != RDMALength {
			t.Errorf("%d bytes of a request: %v", n, why)
		}
	}
	a := RDMAAccept{CRQSIZE: 128}
	b = golden(t, "rdma_accept")
	wantBytes(t, "accept", a.AppendTo(nil), b)
	if got, ok := DecodeRDMAAccept(b); got != a || !ok {
		t.Errorf("accept: %+v, %t", got, ok)
	}
	for n := range 4 {
		if _, ok := DecodeRDMAAccept(b[:n]); ok {
			t.Errorf("%d bytes of an accept are taken for one", n)
		}
	}
	b = golden(t, "rdma_reject")
	wantBytes(t, "reject", RDMAIRD.AppendReject(nil), b)
	if got, ok := DecodeRDMAReject(b); got != RDMAIRD || !ok {
		t.Errorf("reject: %v, %t", got, ok)
	}
	for n := range RDMARejectBytes {
		if _, ok := DecodeRDMAReject(b[:n]); ok {
			t.Errorf("%d bytes of a rejection are taken for one", n)
		}
	}
	for why := RDMALength; why <= RDMACNTLID; why++ {
		if got, ok := DecodeRDMAReject(why.AppendReject(nil)); got != why || !ok || why.String() == "" {
			t.Errorf("reason %d comes back as %v", why, got)
		}
	}
	for _, b := range [][]byte{golden(t, "rdma_accept"), golden(t, "rdma_reject")} {
		b[1] = 1
		_, accepted := DecodeRDMAAccept(b)
		_, rejected := DecodeRDMAReject(b)
		if accepted || rejected {
			t.Errorf("% X: a record format that is not known is read", b)
		}
	}
}

// TARGETS 1.2: what a host asks for, and what it gets.
func TestAnOfferIsJudged(t *testing.T) {
	o := DefaultTransport("RDMA")
	for _, c := range []struct {
		what            string
		r               RDMARequest
		ird             int
		depth, reads    int // of the card
		why             RDMAReason
		entries, expect int
	}{
		{"Linux, Admin queue", RDMARequest{HRQSIZE: 32, HSQSIZE: 31}, 16, 8192, 16, 0, 32, 16},
		{"Linux, I/O queue", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 16, 8192, 16, 0, 128, 16},
		{"a newer one, which names its controller", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127, CNTLID: 5}, 16, 8192, 16, 0, 128, 16},
		{"longer than ours", RDMARequest{QID: 1, HRQSIZE: 1024, HSQSIZE: 1023}, 16, 8192, 16, 0, 128, 16},
		{"fewer receives than entries", RDMARequest{QID: 1, HRQSIZE: 64, HSQSIZE: 127}, 16, 8192, 16, 0, 64, 16},
		{"the largest there is", RDMARequest{QID: 1, HRQSIZE: 0xFFFF, HSQSIZE: 0xFFFF}, 16, 8192, 16, 0, 128, 16},
		{"a card with short queues", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 16, 48, 16, 0, 48, 16},
		{"a host that answers one READ at once", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 1, 8192, 16, 0, 128, 1},
		{"a card that has four in flight", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 16, 8192, 4, 0, 128, 4},
		{"the last queue", RDMARequest{QID: 127, HRQSIZE: 2, HSQSIZE: 1}, 16, 8192, 16, 0, 2, 16},

		{"a queue too many", RDMARequest{QID: 128, HRQSIZE: 128, HSQSIZE: 127}, 16, 8192, 16, RDMAQID, 0, 0},
		{"a submission queue of one entry", RDMARequest{QID: 1, HRQSIZE: 128}, 16, 8192, 16, RDMAHSQSIZE, 0, 0},
		{"no receives", RDMARequest{QID: 1, HSQSIZE: 127}, 16, 8192, 16, RDMAHRQSIZE, 0, 0},
		{"one receive", RDMARequest{QID: 1, HRQSIZE: 1, HSQSIZE: 127}, 16, 8192, 16, RDMAHRQSIZE, 0, 0},
		{"IRD 0", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 0, 8192, 16, RDMAIRD, 0, 0},
		{"an I/O queue of any controller", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127, CNTLID: CNTLIDDynamic}, 16, 8192, 16, RDMACNTLID, 0, 0},
		{"an Admin queue that says so", RDMARequest{HRQSIZE: 32, HSQSIZE: 31, CNTLID: CNTLIDDynamic}, 16, 8192, 16, 0, 32, 16},
		{"a card without queues", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 16, 0, 16, RDMANoResources, 0, 0},
		{"a card that cannot read", RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}, 16, 8192, 0, RDMANoResources, 0, 0},
	} {
		got, why := o.judgeRDMA(c.r.AppendTo(nil), c.ird, c.depth, c.reads)
		if why != c.why || int(got.entries) != c.entries || got.reads != c.expect || why == 0 && got.request != c.r {
			t.Errorf("%s: %+v, %v; want %d entries, %d reads, %v", c.what, got, why, c.entries, c.expect, c.why)
		}
	}
	wrong := RDMARequest{QID: 1, HRQSIZE: 128, HSQSIZE: 127}.AppendTo(nil)
	wrong[0] = 1
	if _, why := o.judgeRDMA(wrong, 16, 8192, 16); why != RDMAFormat {
		t.Errorf("record format 1: %v", why)
	}
	if _, why := o.judgeRDMA(wrong[:31], 16, 8192, 16); why != RDMALength {
		t.Errorf("31 bytes: %v", why)
	}
	if _, why := o.judgeRDMA(nil, 16, 8192, 16); why != RDMALength {
		t.Errorf("no private data: %v", why)
	}
}

func FuzzRDMAPrivateData(f *testing.F) {
	f.Add(RDMARequest{QID: 3, HRQSIZE: 128, HSQSIZE: 127, CNTLID: 0x1234}.AppendTo(nil), uint8(16))
	f.Add(RDMAAccept{CRQSIZE: 128}.AppendTo(nil), uint8(0))
	f.Add(RDMAIRD.AppendReject(nil), uint8(1))
	o := DefaultTransport("RDMA")
	f.Fuzz(func(t *testing.T, b []byte, ird uint8) {
		terms, why := o.judgeRDMA(b, int(ird), 8192, 16)
		if why == 0 && (terms.entries < 2 || terms.entries > o.MaxAdminDepth || terms.reads < 1 || terms.reads > int(ird)) {
			t.Errorf("% X with IRD %d is taken with %+v", b, ird, terms)
		}
		if r, ok := DecodeRDMAReject(b); ok {
			wantBytes(t, "reject", r.AppendReject(nil), b[:RDMARejectBytes])
		}
		DecodeRDMAAccept(b)
	})
}
