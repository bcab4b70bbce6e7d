// Package ctl builds the engine and drives it: it joins the layers below, serves the control socket, keeps the
// configuration, and shows the engine's state as metrics and messages.
//
// Model: a Registry holds the methods; whoever owns a thing registers the methods that act on it. A Server carries calls
// from a unix socket to the registry; a configuration is a list of the same calls. A Frame holds the engine's state,
// startup or runtime, and the list of its parts in the order in which they are configured.
//
// Invariants:
//   - Nothing here runs on a reactor. A handler that has to act there sends a message and waits for the answer.
//   - A call that changes something is logged with who asked for it, and never with its parameters: they may hold secrets.
//   - No client can hold up another: each has its own connection, and each of its requests its own goroutine.
//
// It holds no rule of a protocol or a device; those stand below.
package ctl
