//go:build !cgo

package ibverbs

import (
	"fmt"

	"github.com/pollux-storage/pollux/rdma"
)

// Open answers that this binary cannot.
func Open() (rdma.Provider, error) {
	return nil, fmt.Errorf("%w: this binary was built without cgo, which the RDMA libraries are called by: build it with CGO_ENABLED=1 and a C compiler",
		rdma.ErrUnavailable)
}
