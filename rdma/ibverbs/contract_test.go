//go:build cgo

package ibverbs

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// TestContract runs between two cards of this machine, which RDMA_SERVER and RDMA_CLIENT name as CARD/ADDRESS, for example rxe1/192.0.2.2. They are set
// in the guest of test/vm, which has cards of software. Where nothing is set there may be no card: then Open has to say so.
func TestContract(t *testing.T) {
	server, client := os.Getenv("RDMA_SERVER"), os.Getenv("RDMA_CLIENT")
	if server == "" || client == "" {
		p, err := Open()
		if err == nil {
			t.Logf("there are cards here: set RDMA_SERVER and RDMA_CLIENT to CARD/ADDRESS of two of them, or of one, to see that %s keeps the contract", p.Name())
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, rdma.ErrUnavailable) {
			t.Errorf("Open says %q, which is not that RDMA is unavailable", err)
		}
		return
	}
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
