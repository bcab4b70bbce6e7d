//go:build race

package vm

// race says that these tests look for data races, and so does the engine that they build.
const race = true
