// Package version is the one place where this program's version is written.
package version

import "runtime/debug"

// Pollux is the release, or the next one with -dev.
const Pollux = "0.1.0-dev"

// The SPDK release whose names, parameters and results the control socket follows.
const (
	SPDKMajor = 26
	SPDKMinor = 5
)

// Commit is the commit this program was built from, nothing where the build does not say.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit, modified := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+"
			}
		}
	}
	if commit == "" {
		return ""
	}
	return commit + modified
}
