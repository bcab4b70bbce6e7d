//go:build race

package sim

// raced says that the race detector looks on.
const raced = true
