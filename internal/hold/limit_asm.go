//go:build amd64 || arm64

package hold

// stackLimit is the limit of the goroutine's stack, as functions look at it before they take some.
func stackLimit() uintptr
