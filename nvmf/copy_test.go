package nvmf_test

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

func TestCopy(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		for _, bs := range []int{512, 4096} {
			e := start(nvmftest.Options{BlockSize: uint32(bs)})
			a := e.Admin()
			p := e.Queue(a, 1, 32)
			blocks := uint64(16 << 20 / bs)
			want := pattern(16*bs, 3)
			for i := range 16 {
				p.WantStatus("write", p.Do(p.RW(nvmf.IOWrite, uint64(i), 1), want[i*bs:][:bs]), nvmf.StatusSuccess)
			}
			copying := func(to uint64, format uint8, sources ...nvmf.CopySource) nvmf.CQE {
				s := p.IO(nvmf.IOCopy)
				s.SetCopy(to, len(sources), true)
				s.SetCDW(12, s.CDW(12)|uint32(format)<<8)
				var b []byte
				for _, c := range sources {
					b = c.AppendTo(b)
				}
				return p.Do(s, b)
			}
			p.WantStatus("three sources", copying(100, 0, nvmf.CopySource{SLBA: 8, NLB: 8}, nvmf.CopySource{NLB: 3}, nvmf.CopySource{SLBA: 7, NLB: 1}), nvmf.StatusSuccess)
			_, got := p.Read(p.RW(nvmf.IORead, 100, 12), 12*bs)
			if !bytes.Equal(got, append(append(append([]byte(nil), want[8*bs:]...), want[:3*bs]...), want[7*bs:8*bs]...)) {
				t.Errorf("blocks of %d: the copy differs", bs)
			}
			one := nvmf.CopySource{NLB: 1}
			p.WantStatus("format 1", copying(100, 1, one), nvmf.StatusInvalidField|nvmf.DNR)
			p.WantStatus("a source past the end", copying(100, 0, one, nvmf.CopySource{SLBA: blocks - 1, NLB: 2}), nvmf.StatusLBAOutOfRange|nvmf.DNR)
			p.WantStatus("a source at the last LBA there could be", copying(100, 0, nvmf.CopySource{SLBA: 1<<64 - 1, NLB: 1}), nvmf.StatusLBAOutOfRange|nvmf.DNR)
			p.WantStatus("a destination past the end", copying(blocks-1, 0, one, one), nvmf.StatusLBAOutOfRange|nvmf.DNR)
			p.WantStatus("as far as the end", copying(blocks-2, 0, one, one), nvmf.StatusSuccess)
			most := uint32(16 << 20 / bs)
			if most < 65536 {
				p.WantStatus("above MSSRL", copying(0, 0, nvmf.CopySource{NLB: most + 1}), nvmf.StatusCommandSize|nvmf.DNR)
			}
			many := make([]nvmf.CopySource, 129)
			for i := range many {
				many[i] = one
			}
			p.WantStatus("above MSRC", copying(0, 0, many...), nvmf.StatusCommandSize|nvmf.DNR)
			p.WantStatus("MSRC", copying(200, 0, many[:128]...), nvmf.StatusSuccess)
			for i := range many[:9] {
				many[i].NLB = most
			}
			p.WantStatus("above MCL", copying(0, 0, many[:9]...), nvmf.StatusCommandSize|nvmf.DNR)
			s := p.IO(nvmf.IOCopy)
			s.SetCopy(0, 2, false)
			p.WantStatus("fewer descriptors than it says", p.Do(s, one.AppendTo(nil)), nvmf.StatusSGLLength|nvmf.DNR)
		}
	})
}
