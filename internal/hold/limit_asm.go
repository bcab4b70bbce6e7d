//go:build amd64 || arm64

package hold

import _ "unsafe" // for linkname

//go:linkname begin runtime.procPin
func begin() int

//go:linkname end runtime.procUnpin
func end()

// stackLimit is the limit of the goroutine's stack, as functions look at it before they take some.
func stackLimit() uintptr
