//go:build expensive

package invariant

// Expensive reports whether checks that cost more than a few instructions are compiled in.
const Expensive = true
