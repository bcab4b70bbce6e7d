package nvmf

// This file is where the data of a command over RDMA is. NVM Express RDMA Transport Specification 1.0, "Capsules" and "Key Management"; Base
// Specification 2.0, "SGL Descriptor Type".
//
//	SGL1                          data
//	Keyed Data Block              one piece of the host's memory
//	Data Block Offset             in the capsule, behind the SQE
//	Last Segment Offset           the descriptors are in the capsule, each a Keyed Data Block
//
// A key with sub-type Fh is to be invalidated by the answer; only one can be, and it is the last.

// rdmaPiecesMax is MSDBD over RDMA: descriptors of one command.
const rdmaPiecesMax = 16

// RDMAPiece is a piece of a host's memory.
type RDMAPiece struct {
	Address    uint64
	Key, Bytes uint32
}

// RDMAData is where the data of a command is.
type RDMAData struct {
	Place       DataPlace
	Bytes       uint32 // of all of it
	Offset      uint32 // DataInCapsule: where it begins behind the SQE
	Pieces      uint8  // DataTransfer: how many there are
	Invalidates bool   // Key is to be invalidated by the answer
	Key         uint32
	Piece       [rdmaPiecesMax]RDMAPiece
}

// RDMAData says where the data of a command is, of which the capsule brought what follows the SQE. most bounds it.
func (s *SQE) RDMAData(d *RDMAData, capsule []byte, most uint32) Status {
	d.Place, d.Bytes, d.Offset, d.Pieces, d.Invalidates = DataNone, 0, 0, 0, false
	if p := s.PSDT(); s[0] != OpcodeFabrics && p != PSDTSGL && p != PSDTSGLSegment {
		return StatusInvalidField | DNR
	}
	var status Status
	switch sgl := s.SGL(); {
	case sgl.Type == SGLKeyed:
		status = d.add(sgl)
	case sgl.Type == SGLDataBlock && sgl.Subtype == SGLOffset:
		status = d.inCapsule(sgl, len(capsule))
	case sgl.Type == SGLLastSegment && sgl.Subtype == SGLOffset:
		status = d.several(sgl, capsule)
	default:
		status = StatusSGLType | DNR
	}
	if status.OK() && d.Bytes > most {
		status = StatusSGLLength | DNR
	}
	if !status.OK() {
		d.Place, d.Bytes, d.Pieces, d.Invalidates = DataNone, 0, 0, false
	}
	return status
}

// add takes a Keyed Data Block.
func (d *RDMAData) add(sgl SGL) Status {
	if sgl.Type != SGLKeyed || sgl.Subtype != SGLAddress && sgl.Subtype != SGLInvalidate {
		return StatusSGLType | DNR
	}
	if sgl.Subtype == SGLInvalidate {
		d.Invalidates, d.Key = true, sgl.Key
	}
	if sgl.Bytes == 0 { // describes nothing, and is valid
		return StatusSuccess
	}
	d.Place = DataTransfer
	d.Piece[d.Pieces] = RDMAPiece{sgl.Address, sgl.Key, sgl.Bytes}
	d.Pieces++
	d.Bytes += sgl.Bytes // 16 of 24 bits at most
	return StatusSuccess
}

// inCapsule takes a Data Block Offset. ICDOFF is 0, so offsets count from the end of the SQE.
func (d *RDMAData) inCapsule(sgl SGL, carried int) Status {
	switch {
	case sgl.Address > uint64(carried):
		return StatusSGLOffset | DNR
	case uint64(sgl.Bytes) > uint64(carried)-sgl.Address:
		return StatusSGLLength | DNR
	case sgl.Bytes > 0:
		d.Place, d.Bytes, d.Offset = DataInCapsule, sgl.Bytes, uint32(sgl.Address)
	}
	return StatusSuccess
}

// several takes a Last Segment Offset.
func (d *RDMAData) several(sgl SGL, capsule []byte) Status {
	switch {
	case sgl.Bytes == 0 || sgl.Bytes%SGLBytes != 0:
		return StatusSGLSegment | DNR
	case sgl.Bytes > rdmaPiecesMax*SGLBytes:
		return StatusSGLCount | DNR
	case sgl.Address > uint64(len(capsule)):
		return StatusSGLOffset | DNR
	case uint64(sgl.Bytes) > uint64(len(capsule))-sgl.Address:
		return StatusSGLSegment | DNR
	}
	list := capsule[sgl.Address:][:sgl.Bytes]
	for ; len(list) > 0; list = list[SGLBytes:] {
		if s := d.add(decodeSGL((*[SGLBytes]byte)(list))); !s.OK() {
			return s
		}
	}
	return StatusSuccess
}
