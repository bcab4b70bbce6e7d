//go:build !race

package iscsi

const race = false
