// Package invariant states what must be true of this program itself.
//
// A broken invariant is a defect of Pollux, never of a peer, a request or a disk, so it stops the process: after it no
// further write may be acknowledged. The checks stay on in release builds. Checks whose cost grows with their
// input stand under `if invariant.Expensive`, which the build tag `expensive` turns on.
package invariant

// Check stops the process with what when ok is false. what is a constant of the form "package: sentence".
//
// The panic sits in a function of its own so that Check itself is inlined into its callers.
func Check(ok bool, what string) {
	if !ok {
		broken(what)
	}
}

func broken(what string) {
	panic("invariant broken: " + what)
}
