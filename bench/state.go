package bench

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// State is what a verifying run has written, so that a later run can read it back or go on from it, in another process and
// after whatever was done to the device meanwhile.
//
// Its file, version 1; numbers are little-endian:
//
//	bytes    field
//	0–7      magic "PXSTATE1"; its last character is the version
//	8–15     seed of the headers
//	16–23    first LBA of the region
//	24–31    number of blocks
//	32–35    block size
//	36–39    CRC32C of bytes 0–35
//	40–…     a line of 16 bytes for each block: newest, settled, flying, trimmed (see ledger.go)
//	last 4   CRC32C of the lines
type State struct {
	seed      uint64
	first     uint64
	blockSize uint32
	lines     []entry
}

const (
	stateMagic  = "PXSTATE1"
	stateHeader = 40
	stateLine   = 16

	// stateBlocksMax bounds the ledger to 4 GiB of memory.
	stateBlocksMax = 1 << 28
)

// ErrState is wrapped by the errors of a state file that cannot be used.
var ErrState = errors.New("not a usable state of a verifying run")

// newState is the state before anything was written.
func newState(first, blocks uint64, blockSize uint32) (*State, error) {
	if blocks > stateBlocksMax {
		return nil, fmt.Errorf("verify: a region of %d blocks, and %d fit the ledger: give a smaller size", blocks, stateBlocksMax)
	}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("verify: choosing a seed for the blocks: %w", err)
	}
	return &State{binary.LittleEndian.Uint64(seed[:]), first, blockSize, fresh(blocks)}, nil
}

// Region gives the bytes that the state speaks of.
func (s *State) Region() (offset, size uint64) {
	return s.first * uint64(s.blockSize), uint64(len(s.lines)) * uint64(s.blockSize)
}

// settle ends what was in flight: whatever became of it, it may be found.
func (s *State) settle() {
	for i := range s.lines {
		e := &s.lines[i]
		e.settled |= e.flying
		e.flying = 0
	}
}

// AppendTo encodes the state.
func (s *State) AppendTo(b []byte) []byte {
	at := len(b)
	b = append(b, stateMagic...)
	b = binary.LittleEndian.AppendUint64(b, s.seed)
	b = binary.LittleEndian.AppendUint64(b, s.first)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s.lines)))
	b = binary.LittleEndian.AppendUint32(b, s.blockSize)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	at = len(b)
	for _, e := range s.lines {
		b = binary.LittleEndian.AppendUint32(b, e.newest)
		b = binary.LittleEndian.AppendUint32(b, e.settled)
		b = binary.LittleEndian.AppendUint32(b, e.flying)
		b = binary.LittleEndian.AppendUint32(b, e.trimmed)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// DecodeState reads what AppendTo wrote.
func DecodeState(b []byte) (*State, error) {
	if len(b) < stateHeader || string(b[:8]) != stateMagic {
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrState, stateMagic)
	}
	if binary.LittleEndian.Uint32(b[36:]) != crc32.Checksum(b[:36], castagnoli) {
		return nil, fmt.Errorf("%w: the header's checksum is wrong", ErrState)
	}
	n := binary.LittleEndian.Uint64(b[24:])
	s := &State{
		seed: binary.LittleEndian.Uint64(b[8:]), first: binary.LittleEndian.Uint64(b[16:]), blockSize: binary.LittleEndian.Uint32(b[32:]),
	}
	if n == 0 || n > stateBlocksMax || s.blockSize != 512 && s.blockSize != 4096 {
		return nil, fmt.Errorf("%w: %d blocks of %d bytes", ErrState, n, s.blockSize)
	}
	lines := b[stateHeader:]
	if uint64(len(lines)) != n*stateLine+4 {
		return nil, fmt.Errorf("%w: %d bytes, and %d blocks take %d", ErrState, len(b), n, stateHeader+n*stateLine+4)
	}
	if binary.LittleEndian.Uint32(lines[n*stateLine:]) != crc32.Checksum(lines[:n*stateLine], castagnoli) {
		return nil, fmt.Errorf("%w: the checksum is wrong", ErrState)
	}
	s.lines = make([]entry, n)
	for i := range s.lines {
		l := lines[i*stateLine:]
		s.lines[i] = entry{
			newest: binary.LittleEndian.Uint32(l), settled: binary.LittleEndian.Uint32(l[4:]),
			flying: binary.LittleEndian.Uint32(l[8:]), trimmed: binary.LittleEndian.Uint32(l[12:]),
		}
	}
	s.settle()
	return s, nil
}

// Save writes the state to a file, whole or not at all.
func (s *State) Save(path string) error {
	part := path + ".part"
	err := os.WriteFile(part, s.AppendTo(nil), 0o644)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		return fmt.Errorf("saving the state of the verifying run: %w", err)
	}
	return nil
}

// LoadState reads a state from a file.
func LoadState(path string) (*State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("loading the state of a verifying run: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("loading the state of a verifying run: %w", err)
	}
	s, err := DecodeState(b)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	return s, nil
}
