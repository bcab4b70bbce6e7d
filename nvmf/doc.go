// Package nvmf is NVMe over Fabrics.
//
// Units: data in bytes, LBAs in logical blocks of the namespace; counts are 1-based, whatever they are on the wire.
package nvmf
