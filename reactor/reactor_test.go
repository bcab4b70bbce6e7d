package reactor_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func TestFileIsWrittenAndReadThroughTheRing(t *testing.T) {
	for _, policy := range []reactor.Idle{reactor.Adaptive, reactor.Poll, reactor.Interrupt} {
		t.Run(policy.String(), func(t *testing.T) {
			g := start(t, reactor.Config{Idle: policy})
			f, err := os.Create(filepath.Join(t.TempDir(), "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r := g.Reactor(0)
			got := make(chan string, 1)
			var op reactor.Op
			var file *reactor.File
			var b []byte
			step := 0
			_ = r.Call(func() {
				file = r.NewFile(int(f.Fd()))
				b = r.Memory().Get(4096)
				copy(b, "written")
				r.Bind(&op, opFunc(func(res int32) {
					if res < 0 {
						t.Errorf("step %d: result %d", step, res)
					}
					switch step++; step {
					case 1:
						clear(b)
						file.Datasync(&op)
					case 2:
						file.Read(&op, b, 0)
					case 3:
						got <- string(b[:7])
					}
				}))
				file.Write(&op, b, 0, reactor.WriteDsync)
			})
			if s := <-got; s != "written" {
				t.Fatalf("read %q", s)
			}
			_ = r.Call(func() { r.Memory().Put(b); file.Close(); r.Unbind(&op) })
		})
	}
}
