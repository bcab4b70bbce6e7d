//go:build !amd64 && !arm64

package hold

// Where requests are not found, one that comes during a hold would be forgotten: so there is none.

func begin() int { return 0 }

func end() {}

func stackLimit() uintptr { return 0 }
