package initiator

import "github.com/pollux-storage/pollux/nvmf"

// played is the controller that a fake plays, with one disk for all its namespaces, whatever transport brings its commands.
type played struct {
	disk []byte
	ns   nvmf.IdentifyNamespace
	ids  nvmf.NamespaceIDs // the last byte of the UUID is the NSID
	list []nvmf.NSID
	id   nvmf.IdentifyController
	csts nvmf.CSTS
	log  []nvmf.IOOpcode // I/O commands that came
}

// speaker is a connection of a fake.
type speaker interface {
	answer(c nvmf.CQE)                               // sends a completion
	respond(s *nvmf.SQE, st nvmf.Status, dw0 uint32) // the same of a command
	give(s *nvmf.SQE, data []byte)                   // sends data for a command, and its success
	keep(id nvmf.CID)                                // an Asynchronous Event Request
}

func newPlayed() played {
	p := played{disk: make([]byte, fakeBytes), list: []nvmf.NSID{1}, ids: nvmf.NamespaceIDs{UUID: [16]byte{1, 2, 3}}}
	p.ns = nvmf.IdentifyNamespace{NSZE: fakeBytes / 4096, NCAP: fakeBytes / 4096}
	p.ns.LBAF[0].LBADS = 12
	return p
}

// property reads or writes one.
func (p *played) property(k speaker, s *nvmf.SQE) {
	switch s.FCTYPE() {
	case nvmf.FabricsPropertyGet:
		v := map[uint32]uint64{
			nvmf.PropertyCAP: uint64(nvmf.MakeCAP(64, 1, false)), nvmf.PropertyVS: nvmf.Version20, nvmf.PropertyCSTS: uint64(p.csts), nvmf.PropertyCRTO: 1,
		}[s.PropertyOffset()]
		k.answer(nvmf.CQE{CID: s.CID(), DW0: uint32(v), DW1: uint32(v >> 32)})
	case nvmf.FabricsPropertySet:
		if cc := nvmf.CC(s.PropertyValue()); cc.SHN() != 0 {
			p.csts = p.csts&^nvmf.CSTSShutMask | nvmf.CSTSShutDone
		} else if p.csts &^= nvmf.CSTSRDY; cc.EN() {
			p.csts |= nvmf.CSTSRDY
		}
		k.respond(s, nvmf.StatusSuccess, 0)
	default:
		k.respond(s, nvmf.StatusInvalidField|nvmf.DNR, 0)
	}
}

func (p *played) adminCommand(k speaker, s *nvmf.SQE) {
	switch nvmf.AdminOpcode(s.Opcode()) {
	case nvmf.AdminIdentify:
		switch s.CNS() {
		case nvmf.CNSController:
			k.give(s, p.id.AppendTo(nil))
		case nvmf.CNSActiveList:
			var ids []nvmf.NSID
			for _, id := range p.list {
				if id > s.NSID() {
					ids = append(ids, id)
				}
			}
			k.give(s, nvmf.AppendNSIDList(nil, ids))
		case nvmf.CNSNamespace:
			k.give(s, p.ns.AppendTo(nil))
		case nvmf.CNSDescriptors:
			ids := p.ids
			ids.UUID[15] = byte(s.NSID())
			k.give(s, ids.AppendTo(nil))
		default:
			k.respond(s, nvmf.StatusInvalidField|nvmf.DNR, 0)
		}
	case nvmf.AdminSetFeatures:
		dw0 := uint32(0)
		if s.FID() == nvmf.FIDQueues {
			dw0 = s.CDW(11)
		}
		k.respond(s, nvmf.StatusSuccess, dw0)
	case nvmf.AdminGetLogPage:
		k.give(s, nil)
	case nvmf.AdminAER:
		k.keep(s.CID())
	default:
		k.respond(s, nvmf.StatusSuccess, 0)
	}
}

func (p *played) ioCommand(k speaker, s *nvmf.SQE, data []byte) {
	at, n := s.SLBA()*4096, uint64(s.NLB())*4096
	switch nvmf.IOOpcode(s.Opcode()) {
	case nvmf.IORead:
		k.give(s, p.disk[at:at+n])
	case nvmf.IOWrite:
		copy(p.disk[at:], data)
		k.respond(s, nvmf.StatusSuccess, 0)
	case nvmf.IOWriteZeroes:
		clear(p.disk[at : at+n])
		k.respond(s, nvmf.StatusSuccess, 0)
	default:
		k.respond(s, nvmf.StatusSuccess, 0)
	}
}
