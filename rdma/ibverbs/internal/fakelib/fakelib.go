//go:build cgo

package fakelib

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// typedef int (*fake_do)(const char *, char *, int);
// static int call(void *f, const char *cmd, char *out, int bytes) { return ((fake_do)f)(cmd, out, bytes); }
import "C"

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"
)

//go:embed testdata/fake.c
var source []byte

//go:embed testdata/fake.map
var versions []byte

var built = sync.OnceValues(build)

// build compiles the library, and gives its bytes.
func build() ([]byte, error) {
	dir, err := os.MkdirTemp("", "fakelib")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, script, so := filepath.Join(dir, "fake.c"), filepath.Join(dir, "fake.map"), filepath.Join(dir, "fake.so")
	if err := os.WriteFile(src, source, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(script, versions, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("gcc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wl,--version-script="+script, "-o", so, src)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gcc: %w (scripts/deps test installs it, and the headers)\n%s", err, out)
	}
	return os.ReadFile(so)
}

// Lib is one copy of the library.
type Lib struct {
	t    testing.TB
	path string
	do   unsafe.Pointer
}

// New makes a copy for a test.
func New(t testing.TB) *Lib {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	l := &Lib{t: t, path: filepath.Join(t.TempDir(), "libfake.so.1")}
	if err := os.WriteFile(l.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	path, name := C.CString(l.path), C.CString("fake_do")
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(name))
	so := C.dlopen(path, C.RTLD_NOW|C.RTLD_LOCAL)
	if so == nil {
		t.Fatal(C.GoString(C.dlerror()))
	}
	if l.do = C.dlsym(so, name); l.do == nil {
		t.Fatal(C.GoString(C.dlerror()))
	}
	return l
}

// Path is where the library lies.
func (l *Lib) Path() string { return l.path }

// Do gives an order: fake_do in testdata/fake.c has them.
func (l *Lib) Do(format string, a ...any) string {
	l.t.Helper()
	cmd := C.CString(fmt.Sprintf(format, a...))
	defer C.free(unsafe.Pointer(cmd))
	out := make([]byte, 1<<20)
	if C.call(l.do, cmd, (*C.char)(unsafe.Pointer(&out[0])), C.int(len(out))) != 0 {
		l.t.Fatalf("the fake library does not know the order %q", fmt.Sprintf(format, a...))
	}
	return C.GoString((*C.char)(unsafe.Pointer(&out[0])))
}
