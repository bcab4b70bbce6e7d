package nvmf_test

import (
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// This file is the Admin commands as tests send them.

// name says which namespace a command is about.
func name(s *nvmf.SQE, id nvmf.NSID) { binary.LittleEndian.PutUint32(s[4:], uint32(id)) }

// getFeature gives a feature's value.
func getFeature(p *nvmftest.Peer, fid nvmf.FID, sel nvmf.SEL, id nvmf.NSID, cdw11 uint32) nvmf.CQE {
	s := p.Cmd(nvmf.AdminGetFeatures)
	name(s, id)
	s.SetFID(fid, cdw11)
	s[41] = byte(sel)
	return p.Do(s, nil)
}

func setFeature(p *nvmftest.Peer, fid nvmf.FID, id nvmf.NSID, v uint32) nvmf.CQE {
	s := p.Cmd(nvmf.AdminSetFeatures)
	name(s, id)
	s.SetFID(fid, v)
	return p.Do(s, nil)
}

func identify(t *testing.T, p *nvmftest.Peer, cns nvmf.CNS, id nvmf.NSID) []byte {
	t.Helper()
	s := p.Cmd(nvmf.AdminIdentify)
	name(s, id)
	s.SetIdentify(cns, 0, 0)
	cqe, b := p.Read(s, nvmf.IdentifyBytes)
	p.WantStatus("Identify", cqe, nvmf.StatusSuccess)
	return b
}

func identifyNS(t *testing.T, p *nvmftest.Peer, id nvmf.NSID) nvmf.IdentifyNamespace {
	t.Helper()
	n, _ := nvmf.DecodeIdentifyNamespace(identify(t, p, nvmf.CNSNamespace, id))
	return n
}

// listen sends an Asynchronous Event Request after enabling every event that the controller has.
func listen(p *nvmftest.Peer, events uint32) *nvmf.SQE {
	p.WantStatus("feature 0Bh", setFeature(p, nvmf.FIDEvents, 0, events), nvmf.StatusSuccess)
	aer := p.Cmd(nvmf.AdminAER)
	p.Begin(aer, nil)
	return aer
}

func wantEvent(t *testing.T, p *nvmftest.Peer, aer *nvmf.SQE, want nvmf.Event) {
	t.Helper()
	cqe, _ := p.Completion(aer)
	if got := nvmf.DecodeEvent(cqe.DW0); !cqe.Status.OK() || got != want {
		t.Fatalf("%v, event %+v, want %+v", cqe.Status, got, want)
	}
}

// reset disables the controller and enables it again.
func reset(p *nvmftest.Peer) {
	p.WantStatus("CC.EN 0", p.SetProperty(nvmf.PropertyCC, 0), nvmf.StatusSuccess)
	for nvmf.CSTS(p.Property(nvmf.PropertyCSTS, 4))&nvmf.CSTSRDY != 0 {
	}
	p.Enable()
}
