package wal

import "unsafe"

// ReaderBytes is what a reader takes: its window, out of the reactor's buffers, and the records in it.
const ReaderBytes = windowBytes + windowRecords*uint64(unsafe.Sizeof(Record{})+unsafe.Sizeof(start{})) + 4*batchPagesMax
