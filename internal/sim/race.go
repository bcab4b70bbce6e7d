//go:build race

package sim

// Raced says that the race detector looks on, and all takes ten times as long.
const Raced = true
