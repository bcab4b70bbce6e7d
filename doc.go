// Package pollux holds what is true of the whole module: its order of packages. The program is cmd/pollux.
package pollux
