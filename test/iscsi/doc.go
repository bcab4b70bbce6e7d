// Package iscsi tests the iSCSI target by programs that others wrote: the conformance suite of libiscsi (iscsi-test-cu), and the iSCSI driver
// of qemu's tools. The engine is the real binary on the loopback interface; what they need is installed by scripts/deps test.
//
// The files:
//
//	engine_test.go       the engine, and the targets that it serves
//	cunit_test.go        what iscsi-test-cu says, read
//	suite_test.go        the suite on each LUN, with and without CHAP and digests
//	conformance_test.go  docs/conformance.md, which lists what the suite skips, against what it skipped
//	qemu_test.go         qemu-img and qemu-io
//
// Linux' own initiator (open-iscsi) is in test/vm.
package iscsi
