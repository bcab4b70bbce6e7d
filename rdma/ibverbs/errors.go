//go:build cgo

package ibverbs

import "C"

import (
	"fmt"
	"syscall"
)

// failure is what was attempted, and the errno that came of it.
func failure(what string, errno C.int) error {
	return fmt.Errorf("ibverbs: %s: %w", what, syscall.Errno(errno))
}

// advise adds what helps against an errno that has a usual cause.
func advise(err error, errno C.int) error {
	switch syscall.Errno(errno) {
	case syscall.ENOMEM:
		return fmt.Errorf("%w: registered memory and queues count as locked memory, and the card's own is finite. Raise the limit (ulimit -l, LimitMEMLOCK= "+
			"of the service) or use fewer queues", err)
	case syscall.EACCES, syscall.EPERM:
		return fmt.Errorf("%w: whoever runs this needs to read and write /dev/infiniband", err)
	}
	return err
}
