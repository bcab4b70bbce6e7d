// Package vm tests Pollux against real Linux hosts: it boots a small guest under qemu, whose kernel is an
// NVMe/TCP host and an iSCSI one, and runs scenarios in it that drive that kernel with nvme-cli, open-iscsi, fio, mkfs and their like.
//
// The files:
//
//	guest, kernel, init      the guest, for a shell too: `guest -h`
//	testdata/scenarios       one scenario a file: bash, in the words that testdata/lib defines
//	testdata/measures        the same, of what is measured on order
//	testdata/lib             those words: assertions, the host's side, and the target's side twice
//	guest_test.go            a running guest, which takes one scenario after another
//	scenario_test.go         the scenarios and their headers
//	vm_test.go               the tests
//
// Each scenario runs against two targets: Pollux, which it tests, and the kernel's own target (nvmet), which
// tests the scenario: one that fails against nvmet is wrong. README.md says how to run one alone.
package vm
