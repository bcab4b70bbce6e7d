//go:build cgo

package ibverbs

// #cgo CFLAGS: -std=gnu11 -O2 -Wall
// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// provider is both libraries, opened.
type provider struct {
	lib *C.struct_s_lib

	mu     sync.Mutex
	lists  []C.uintptr_t // of rdma_get_devices: each holds its cards open
	cards  []*card       // all that were ever seen
	ids    map[rdma.ID]*conn
	lastID rdma.ID
	cms    int
	closed bool

	retiring sync.WaitGroup // cards that are gone and being closed
}

// Open opens the libraries and the machine's cards. Its error wraps rdma.ErrUnavailable, and says what to do, where there is nothing to open.
func Open() (rdma.Provider, error) {
	return open("libibverbs.so.1", "librdmacm.so.1")
}

func open(verbs, cm string) (rdma.Provider, error) {
	// Objects of a card that was pulled out are gone in the kernel: destroying them is to succeed. ibv_open_device(3).
	if _, set := os.LookupEnv("RDMAV_ALLOW_DISASSOC_DESTROY"); !set {
		_ = os.Setenv("RDMAV_ALLOW_DISASSOC_DESTROY", "1")
	}
	lib, err := openLibraries(verbs, cm)
	if err != nil {
		return nil, err
	}
	p := &provider{lib: lib, ids: make(map[rdma.ID]*conn)}
	cards, err := p.Cards()
	if err == nil && len(cards) == 0 {
		err = noCard("/sys/class/infiniband")
	}
	if err == nil {
		err = p.tryCM()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func openLibraries(verbs, cm string) (*C.struct_s_lib, error) {
	v, c := C.CString(verbs), C.CString(cm)
	defer C.free(unsafe.Pointer(v))
	defer C.free(unsafe.Pointer(c))
	var why [512]C.char
	var old C.int
	lib := C.s_open(v, c, &why[0], C.int(len(why)), &old)
	if lib != nil {
		return lib, nil
	}
	if old != 0 {
		return nil, fmt.Errorf("%w: the RDMA libraries are none that can be used: %s. Install those of rdma-core", rdma.ErrUnavailable, C.GoString(&why[0]))
	}
	return nil, fmt.Errorf("%w: the RDMA libraries cannot be opened: %s. Install them: apt-get install libibverbs1 librdmacm1 ibverbs-providers, "+
		"or dnf install libibverbs librdmacm", rdma.ErrUnavailable, C.GoString(&why[0]))
}

// noCard says why the libraries have none, which they do not: the kernel may have cards.
func noCard(list string) error {
	there, _ := os.ReadDir(list)
	if len(there) == 0 {
		return fmt.Errorf("%w: the libraries are there, but neither they nor the kernel (%s) has a card. Soft-RoCE makes one of any network interface: "+
			"modprobe rdma_rxe; rdma link add rxe0 type rxe netdev eth0", rdma.ErrUnavailable, list)
	}
	names := make([]string, len(there))
	for i, e := range there {
		names[i] = e.Name()
	}
	return fmt.Errorf("%w: the kernel has %s, but the libraries (rdma_get_devices) cannot use that. Install the drivers (apt-get install ibverbs-providers, or dnf "+
		"install libibverbs), load the kernel's side (modprobe ib_uverbs rdma_ucm), and let whoever runs this read and write /dev/infiniband; a container needs to "+
		"be given those devices", rdma.ErrUnavailable, strings.Join(names, ", "))
}

// tryCM finds out whether the kernel has the connection manager.
func (p *provider) tryCM() error {
	m, err := p.NewCM()
	if err != nil {
		return fmt.Errorf("%w: there are cards, but no connection manager: %w. Load it: modprobe rdma_ucm; /dev/infiniband/rdma_cm must be writable for "+
			"whoever runs this", rdma.ErrUnavailable, err)
	}
	return m.Close()
}

// Name is what people know it by.
func (p *provider) Name() string { return "libibverbs" }

// Cards lists the cards there are now. Those that came since are opened, those that went are left out.
func (p *provider) Cards() ([]rdma.Verbs, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("ibverbs: list cards: %w", os.ErrClosed)
	}
	here, err := p.refresh(false)
	if err != nil {
		return nil, err
	}
	out := make([]rdma.Verbs, len(here))
	for i, c := range here {
		out[i] = c
	}
	return out, nil
}

// refresh asks for the cards there are, and opens those that are new. keep says that the list is kept, new cards or not. The caller has the lock.
func (p *provider) refresh(keep bool) ([]*card, error) {
	var list C.uintptr_t
	n := C.s_devices(p.lib, &list)
	if n < 0 {
		return nil, failure("list the RDMA cards (rdma_get_devices)", -n)
	}
	if list == 0 {
		return nil, nil
	}
	var here []*card
	var failed error
	listed := make(map[C.uintptr_t]bool, int(n))
	for i := range n {
		context := C.s_device(list, i)
		listed[context] = true
		if t := C.s_transport(context); t != C.V_TRANSPORT_IB && t != C.V_TRANSPORT_IWARP {
			continue // has no reliable connections
		}
		c := p.known(context)
		if c == nil {
			var err error
			if c, err = openCard(p, context); err != nil {
				failed = err
				continue
			}
			p.cards = append(p.cards, c)
			keep = true
		}
		if !c.isGone() {
			here = append(here, c)
		}
	}
	// Once the library has closed a card, its address may be another's.
	p.cards = slices.DeleteFunc(p.cards, func(c *card) bool { return !listed[c.context] && c.isClosed() })
	// One list holds a card open as well as two.
	if keep {
		p.lists = append(p.lists, list)
	} else {
		C.s_free_devices(p.lib, list)
	}
	return here, failed
}

func (p *provider) known(context C.uintptr_t) *card {
	for _, c := range p.cards {
		if c.context == context {
			return c
		}
	}
	return nil
}

// cardOf finds the card of a connection, which may be one that has come since.
func (p *provider) cardOf(context C.uintptr_t) *card {
	if context == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.known(context); c != nil {
		return c
	}
	if _, err := p.refresh(false); err != nil {
		return nil
	}
	return p.known(context)
}

// Close closes the cards. What was made on them, and all connection managers, are to be gone before.
func (p *provider) Close() error {
	p.retiring.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.cms > 0 {
		return fmt.Errorf("ibverbs: close: %d connection managers are still open", p.cms)
	}
	p.closed = true
	var errs []error
	for _, c := range p.cards {
		errs = append(errs, c.close())
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is left holds its card
	}
	for _, l := range p.lists {
		C.s_free_devices(p.lib, l)
	}
	C.free(unsafe.Pointer(p.lib))
	return nil
}
