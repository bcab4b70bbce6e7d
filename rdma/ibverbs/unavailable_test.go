//go:build !cgo

package ibverbs

import (
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

func TestOpenWithoutCgo(t *testing.T) {
	p, err := Open()
	if p != nil || !errors.Is(err, rdma.ErrUnavailable) || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("%v, %v", p, err)
	}
}
