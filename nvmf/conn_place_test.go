package nvmf_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
)

// A host's request may be in several pieces of memory: the data of one C2HData then goes to one place after another, whether it
// comes through the receive buffer or straight from the socket, however the stream is cut.
func TestDataGoesToOnePlaceAfterAnother(t *testing.T) {
	const n = 96 << 10
	data := pattern(n, 7)
	for _, digests := range []nvmf.Digests{0, nvmf.HeaderDigests | nvmf.DataDigests} {
		stream := nvmf.ICResp{Digests: digests, MAXH2CDATA: 4096}.AppendTo(nil)
		stream = nvmf.DataPDU{CCCID: 3, DATAL: n, Last: true}.AppendC2HData(stream, digests, 4)
		stream = append(stream, data...)
		if digests&nvmf.DataDigests != 0 {
			stream = nvmf.AppendDigest(stream, nvmf.DataDigest(0, data))
		}
		stream = nvmf.AppendCapsuleResp(stream, nvmf.CQE{CID: 3}, digests)
		for _, piece := range []int{512, 4096, 20 << 10, n} {
			for _, cut := range []int{1, 13, 4096, len(stream)} {
				for _, keep := range []int{n, n / 2} { // what is not kept is discarded
					t.Run(fmt.Sprintf("digests %d, pieces of %d, cut at %d, %d kept", digests, piece, cut, keep), func(t *testing.T) {
						var c nvmf.Conn
						c.Init(nvmf.SideHost, make([]byte, 32<<10), digests)
						c.Limits(0, n)
						got := make([]byte, n)
						place := func(at int) int {
							if at >= keep {
								c.Discard()
								return n
							}
							end := min(at+piece, n)
							c.Place(got[at:end])
							return end
						}
						var arrived []nvmf.Arrival
						at, rest := 0, stream
						for arrived = nil; ; {
							a := c.Next()
							if a == nvmf.ArrivedNothing {
								if len(rest) == 0 {
									break
								}
								room := c.Room()
								k := copy(room[:min(len(room), cut)], rest)
								rest = rest[k:]
								c.Feed(k)
								continue
							}
							if a == nvmf.ArrivedData || a == nvmf.ArrivedDataMore {
								at = place(at)
							}
							if a != nvmf.ArrivedDataMore {
								arrived = append(arrived, a)
							}
						}
						want := fmt.Sprint([]nvmf.Arrival{nvmf.ArrivedIC, nvmf.ArrivedData, nvmf.ArrivedDataEnd, nvmf.ArrivedResponse})
						if fmt.Sprint(arrived) != want || !c.DigestOK {
							t.Fatalf("arrivals %v, want %v; digest right: %v", arrived, want, c.DigestOK)
						}
						if at = min(at, (keep+piece-1)/piece*piece); !bytes.Equal(got[:min(at, keep)], data[:min(at, keep)]) {
							t.Error("the data in the pieces is not that of the stream")
						}
					})
				}
			}
		}
	}
}
