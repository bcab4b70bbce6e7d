//go:build cgo && cards

package ibverbs

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// TestContract runs between two cards of this machine, which RDMA_SERVER and RDMA_CLIENT name as CARD/ADDRESS, for example rxe1/192.0.2.2. They are set
// in the guest of test/vm, which has cards of software, and for which the test is built with the tag cards.
func TestContract(t *testing.T) {
	server, client := cardsOf(t)
	serverCard, at := endOf(t, server)
	clientCard, from := endOf(t, client)
	rdmatest.Contract(t, func(t *testing.T) rdmatest.Ends {
		p, err := Open()
		if err != nil {
			t.Fatal(err)
		}
		return rdmatest.Ends{
			Server: p, Client: p, ServerCard: serverCard, ClientCard: clientCard, At: at, From: from,
			Alive: func() int { return held(t, serverCard, clientCard) },
		}
	})
}

// cardsOf is what the environment says of them.
func cardsOf(t *testing.T) (server, client string) {
	t.Helper()
	server, client = os.Getenv("RDMA_SERVER"), os.Getenv("RDMA_CLIENT")
	if server == "" || client == "" {
		t.Fatal("set RDMA_SERVER and RDMA_CLIENT to CARD/ADDRESS of two cards, or of one")
	}
	return server, client
}

func endOf(t *testing.T, text string) (card string, a netip.Addr) {
	t.Helper()
	card, address, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil {
		t.Fatalf("%q is not CARD/ADDRESS: %v", text, err)
	}
	return card, a
}

// held is how many objects the kernel knows on two cards, of anyone. Protection domains are not among them: librdmacm makes one of its own for a
// card's first connection, and keeps it.
func held(t *testing.T, server, client string) int {
	t.Helper()
	out, err := exec.Command("rdma", "-j", "resource", "show").Output()
	if err != nil {
		t.Fatalf("rdma resource show: %v", err)
	}
	var cards []struct {
		Name            string `json:"ifname"`
		CQ, QP, MR, SRQ int
		CMID            int `json:"cm_id"`
	}
	if err := json.Unmarshal(out, &cards); err != nil {
		t.Fatalf("rdma resource show: %v in %s", err, out)
	}
	sum := 0
	for _, c := range cards {
		if c.Name == server || c.Name == client {
			sum += c.CQ + c.QP + c.CMID + c.MR + c.SRQ
		}
	}
	return sum
}
