//go:build !race

package sim

const Raced = false
