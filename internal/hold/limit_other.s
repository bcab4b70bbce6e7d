//go:build !amd64 && !arm64

// This file lets the compiler take functions without a body: those of the runtime.
