//go:build race

package iscsi

// race says that these tests look for data races, and so does the engine that they build.
const race = true
