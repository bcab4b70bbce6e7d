package nvmf

import (
	"bytes"
	"encoding/binary"
)

// layout reads or writes the fields of a fixed structure. A structure lists its fields once, in the order of their
// offsets, as calls of these methods; the list is encoder, decoder and documentation.
type layout struct {
	b       []byte
	reading bool
}

func (l layout) u8(at int, v *uint8) {
	if l.reading {
		*v = l.b[at]
	} else {
		l.b[at] = *v
	}
}

func (l layout) u16(at int, v *uint16) {
	if l.reading {
		*v = binary.LittleEndian.Uint16(l.b[at:])
	} else {
		binary.LittleEndian.PutUint16(l.b[at:], *v)
	}
}

func (l layout) u32(at int, v *uint32) {
	if l.reading {
		*v = binary.LittleEndian.Uint32(l.b[at:])
	} else {
		binary.LittleEndian.PutUint32(l.b[at:], *v)
	}
}

func (l layout) u64(at int, v *uint64) {
	if l.reading {
		*v = binary.LittleEndian.Uint64(l.b[at:])
	} else {
		binary.LittleEndian.PutUint64(l.b[at:], *v)
	}
}

// u128 is a number of 16 bytes of which we keep 8; one that needs more is read as the largest.
func (l layout) u128(at int, v *uint64) {
	l.u64(at, v)
	if l.reading && binary.LittleEndian.Uint64(l.b[at+8:]) != 0 {
		*v = ^uint64(0)
	}
}

func (l layout) bytes(at int, v []byte) {
	if l.reading {
		copy(v, l.b[at:])
	} else {
		copy(l.b[at:], v)
	}
}

// text is ASCII, padded with spaces. Some end it with a NUL; what stands behind it is not looked at.
func (l layout) text(at, n int, v *string) {
	field := l.b[at : at+n]
	if l.reading {
		field, _, _ = bytes.Cut(field, []byte{0})
		*v = string(bytes.TrimRight(field, " "))
		return
	}
	for i := copy(field, *v); i < n; i++ {
		field[i] = ' '
	}
}

// nqn is a name with a NUL behind it. It is read whatever its form: what others call their subsystems is theirs.
func (l layout) nqn(at int, v *string) {
	field := l.b[at : at+NQNFieldBytes]
	if l.reading {
		name, _, _ := bytes.Cut(field[:NQNFieldBytes-1], []byte{0})
		*v = string(name)
		return
	}
	copy(field[:NQNFieldBytes-1], *v)
}

// grow appends n zeros to b and gives them too.
func grow(b []byte, n int) (all, added []byte) {
	start := len(b)
	for n > len(zeros) {
		b = append(b, zeros[:]...)
		n -= len(zeros)
	}
	b = append(b, zeros[:n]...)
	return b, b[start:]
}
