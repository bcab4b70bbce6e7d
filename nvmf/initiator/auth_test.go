package initiator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

func testKey(t testing.TB, seed byte) *nvmf.AuthKey {
	t.Helper()
	secret := make([]byte, 32)
	secret[0] = seed
	k, err := nvmf.NewAuthKey(nvmf.AuthSHA256, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// authenticating lets a fake demand authentication on every queue.
func (f *fake) authenticating(c func() nvmf.AuthConfig) {
	machines := map[*fakeConn]*nvmf.AuthTarget{}
	f.fabricData = func(k *fakeConn, s *nvmf.SQE, data []byte) bool {
		m := machines[k]
		switch s.FCTYPE() {
		case nvmf.FabricsConnect:
			m, err := nvmf.NewAuthTarget(c())
			if err != nil {
				f.t.Error(err)
			}
			machines[k] = m
			k.qid = s.ConnectQID()
			k.send(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID(), DW0: 7 | nvmf.ConnectATR, SQHD: 0xFFFF}, k.in.Digests()))
			return true
		case nvmf.FabricsAuthSend, nvmf.FabricsAuthReceive:
			if !s.AuthProtocol() {
				f.t.Error("another security protocol")
			}
			if err := m.Configure(c()); err != nil {
				f.t.Error(err)
			}
			var step nvmf.AuthStep
			if s.FCTYPE() == nvmf.FabricsAuthSend {
				step = m.Send(data)
			} else {
				step = m.Receive(int(s.AuthBytes()))
			}
			for step.Do == nvmf.AuthHold {
				step.Job.Run()
				step = m.Computed(step.Job)
			}
			switch step.Do {
			case nvmf.AuthComplete, nvmf.AuthCompleteThenClose:
				if s.FCTYPE() == nvmf.FabricsAuthReceive {
					k.give(s, step.Data)
				} else {
					k.respond(s, nvmf.StatusSuccess, 0)
				}
				if step.Do == nvmf.AuthCompleteThenClose {
					_ = k.c.Close()
				}
			case nvmf.AuthInvalidField:
				k.respond(s, nvmf.StatusInvalidField|nvmf.DNR, 0)
			case nvmf.AuthSequenceError:
				k.respond(s, nvmf.StatusSequence|nvmf.DNR, 0)
			case nvmf.AuthClose:
				_ = k.c.Close()
			}
			return true
		}
		if !m.Authenticated() {
			f.t.Errorf("%v before authentication", s.FCTYPE())
		}
		return false
	}
}

func TestAuthentication(t *testing.T) {
	right, ctrl, wrong := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	for _, c := range []struct {
		why        string
		host, ctrl *nvmf.AuthKey // of the host
		far        *nvmf.AuthKey // the controller's own
		groups     []nvmf.DHGroup
		hashes     []nvmf.AuthHash
		fails      string
	}{
		{why: "one way", host: right},
		{why: "one way, without Diffie-Hellman", host: right, groups: []nvmf.DHGroup{nvmf.DHNull}},
		{why: "one way, SHA-384, ffdhe3072", host: right, groups: []nvmf.DHGroup{nvmf.DHFFDHE3072}, hashes: []nvmf.AuthHash{nvmf.AuthSHA384}},
		{why: "both ways", host: right, ctrl: ctrl, far: ctrl, groups: []nvmf.DHGroup{nvmf.DHFFDHE2048}},
		{why: "no key", fails: "dhchap_key"},
		{why: "the wrong key", host: wrong, groups: []nvmf.DHGroup{nvmf.DHNull}, fails: "authentication failed"},
		{why: "the controller has the wrong key", host: right, ctrl: ctrl, far: wrong, groups: []nvmf.DHGroup{nvmf.DHNull}, fails: "controller's response"},
		{why: "the controller cannot prove itself", host: right, ctrl: ctrl, groups: []nvmf.DHGroup{nvmf.DHNull}, fails: "authenticat"},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			f.authenticating(func() nvmf.AuthConfig {
				return nvmf.AuthConfig{SubNQN: nvmftest.NQN, HostNQN: nvmftest.Host, HostKey: right, CtrlKey: c.far}
			})
			h := newHost(t, 2)
			o := f.options()
			o.HostKey, o.CtrlKey, o.Groups, o.Hashes = c.host, c.ctrl, c.groups, c.hashes
			names, err := h.in.Attach(context.Background(), o)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("attached %v, %v; want an error with %q", names, err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := h.open("Nvme0n1")
			defer d.close()
			for i := range 2 {
				d.want("read", i, &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
			}
		})
	}
}

// Keys change while a controller works, and a target that no longer takes the old ones is not lost.
func TestKeysChange(t *testing.T) {
	old, next := testKey(t, 1), testKey(t, 2)
	f := newFake(t)
	key := old
	f.authenticating(func() nvmf.AuthConfig {
		return nvmf.AuthConfig{SubNQN: nvmftest.NQN, HostNQN: nvmftest.Host, HostKey: key}
	})
	h := newHost(t, 2)
	o := f.options()
	o.HostKey, o.Groups = old, []nvmf.DHGroup{nvmf.DHNull}
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	loads := []*load{d.startLoad(0, 4, 4096, 200), d.startLoad(1, 4, 4096, 200)}
	f.set(func() { key = next })
	if err := h.in.SetKeys(context.Background(), "Nvme0", next, nil); err != nil {
		t.Error(err)
	}
	for _, l := range loads {
		l.wait()
	}
	if l := h.in.Controllers()[0].Losses; l > 0 {
		t.Errorf("%d connections were lost", l)
	}
	f.drop()
	h.await("a connection with the new key", func() bool {
		i := h.in.Controllers()
		return len(i) == 1 && i[0].Losses == 1 && i[0].State == StateConnected
	})
	if err := h.in.SetKeys(context.Background(), "Nvme0", old, nil); err == nil {
		t.Error("a key that the target does not take was taken")
	}
}

// A host that asks for the target's proof does not take one that asks for none.
func TestTargetThatDoesNotAuthenticate(t *testing.T) {
	f := newFake(t)
	h := newHost(t, 1)
	o := f.options()
	o.HostKey, o.CtrlKey = testKey(t, 1), testKey(t, 2)
	if _, err := h.in.Attach(context.Background(), o); err == nil || !strings.Contains(err.Error(), "authenticat") {
		t.Errorf("%v", err)
	}
}

// What a target may answer while it is connected to, and what is then said.
func TestAttachFails(t *testing.T) {
	status := func(at func(s *nvmf.SQE) bool, st nvmf.Status, dw0 uint32) func(f *fake) {
		return func(f *fake) {
			wrong := func(k *fakeConn, s *nvmf.SQE) bool {
				if at(s) {
					k.respond(s, st, dw0)
					return true
				}
				return false
			}
			f.fabric, f.admin = wrong, wrong
		}
	}
	connect := func(q nvmf.QID) func(s *nvmf.SQE) bool {
		return func(s *nvmf.SQE) bool {
			return s.Opcode() == nvmf.OpcodeFabrics && s.FCTYPE() == nvmf.FabricsConnect && s.ConnectQID() == q
		}
	}
	admin := func(op nvmf.AdminOpcode) func(s *nvmf.SQE) bool {
		return func(s *nvmf.SQE) bool { return nvmf.AdminOpcode(s.Opcode()) == op }
	}
	identify := func(change func(c *nvmf.IdentifyController)) func(f *fake) {
		return func(f *fake) { change(&f.id) }
	}
	icresp := func(b []byte) func(f *fake) {
		return func(f *fake) {
			f.icresp = func(k *fakeConn, _ nvmf.ICReq) bool { k.send(b); return true }
		}
	}
	ok := nvmf.ICResp{MAXH2CDATA: 4096}.AppendTo(nil)
	with := func(at int, v byte) []byte {
		b := append([]byte(nil), ok...)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		why   string
		stage func(f *fake)
		says  string
		term  nvmf.PDUError
	}{
		{"PFV", icresp(with(8, 1)), "at byte 8", invalid(8)},
		{"CPDA", icresp(with(10, 32)), "at byte 10", invalid(10)},
		{"digests that were not asked for", icresp(with(11, 1)), "at byte 11", invalid(11)},
		{"MAXH2CDATA below 4096", icresp(put32(append([]byte(nil), ok...), 12, 4092)), "at byte 12", invalid(12)},
		{"MAXH2CDATA no multiple of 4", icresp(put32(append([]byte(nil), ok...), 12, 4098)), "at byte 12", invalid(12)},
		{"ICResp of another length", icresp(with(2, 127)), "at byte 2", invalid(2)},
		{"a response before ICResp", icresp(nvmf.AppendCapsuleResp(nil, nvmf.CQE{}, 0)), "Sequence", nvmf.ErrSequence},
		{"a request of a host", icresp(nvmf.ICReq{}.AppendTo(nil)), "at byte 0", invalid(0)},
		{"no ICResp", func(f *fake) { f.icresp = func(*fakeConn, nvmf.ICReq) bool { return true } }, "no answer", nvmf.PDUError{}},
		{"the end after ICReq", func(f *fake) {
			f.icresp = func(k *fakeConn, _ nvmf.ICReq) bool { _ = k.c.Close(); return true }
		}, "", nvmf.PDUError{}},
		{"unknown subsystem", status(connect(0), nvmf.StatusConnectParameters|nvmf.DNR, uint32(nvmf.IPOSUBNQN)), "no such subsystem", nvmf.PDUError{}},
		{"host not allowed", status(connect(0), nvmf.StatusConnectHost|nvmf.DNR, 0), "may not connect", nvmf.PDUError{}},
		{"no controller left", status(connect(0), nvmf.StatusConnectBusy, 0), "1/81", nvmf.PDUError{}},
		{"I/O queue refused", status(connect(1), nvmf.StatusConnectParameters|nvmf.DNR, uint32(nvmf.IPOQID)), "queue 1", nvmf.PDUError{}},
		{"a secure channel is wanted", func(f *fake) {
			f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
				k.send(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID(), DW0: 7 | nvmf.ConnectASCR, SQHD: 0xFFFF}, 0))
				return true
			}
		}, "TLS", nvmf.PDUError{}},
		{"CSTS.CFS", func(f *fake) {
			f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
				if s.FCTYPE() == nvmf.FabricsPropertyGet && s.PropertyOffset() == nvmf.PropertyCSTS {
					k.respond(s, 0, uint32(nvmf.CSTSCFS))
					return true
				}
				return false
			}
		}, "CFS", nvmf.PDUError{}},
		{"never ready", func(f *fake) {
			f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
				if s.FCTYPE() == nvmf.FabricsPropertyGet && s.PropertyOffset() == nvmf.PropertyCSTS {
					k.respond(s, 0, 0)
					return true
				}
				return false
			}
		}, "did not change its state", nvmf.PDUError{}},
		{"no NVM command set", func(f *fake) {
			f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
				if s.FCTYPE() == nvmf.FabricsPropertyGet {
					k.respond(s, 0, 0)
					return true
				}
				return false
			}
		}, "NVM command set", nvmf.PDUError{}},
		{"Identify fails", status(admin(nvmf.AdminIdentify), nvmf.StatusInternal, 0), "0/06", nvmf.PDUError{}},
		{"Identify is not answered", func(f *fake) {
			f.admin = func(*fakeConn, *nvmf.SQE) bool { return true }
		}, "Identify", nvmf.PDUError{}},
		{"another CNTLID", identify(func(c *nvmf.IdentifyController) { c.CNTLID = 8 }), "identifies itself as 8", nvmf.PDUError{}},
		{"another subsystem", identify(func(c *nvmf.IdentifyController) { c.SUBNQN = "nqn.2026-01.io.pollux:other" }), "belongs to", nvmf.PDUError{}},
		{"a discovery controller", identify(func(c *nvmf.IdentifyController) { c.CNTRLTYPE = nvmf.ControllerDiscovery }), "discovery", nvmf.PDUError{}},
		{"no keep-alive", identify(func(c *nvmf.IdentifyController) { c.KAS = 0 }), "KAS", nvmf.PDUError{}},
		{"no SGLs", identify(func(c *nvmf.IdentifyController) { c.SGLS = 0 }), "SGL", nvmf.PDUError{}},
		{"capsules without room for a command", identify(func(c *nvmf.IdentifyController) { c.IOCCSZ = 3 }), "IOCCSZ", nvmf.PDUError{}},
		{"queues are not granted", status(admin(nvmf.AdminSetFeatures), nvmf.StatusInvalidField|nvmf.DNR, 0), "0/02", nvmf.PDUError{}},
		{"a list of namespaces that does not ascend", func(f *fake) {
			f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
				if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminIdentify || s.CNS() != nvmf.CNSActiveList {
					return false
				}
				k.give(s, nvmf.AppendNSIDList(nil, []nvmf.NSID{2, 1}))
				return true
			}
		}, "does not ascend", nvmf.PDUError{}},
		{"a list of namespaces that never ends", func(f *fake) {
			f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
				if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminIdentify || s.CNS() != nvmf.CNSActiveList {
					return false
				}
				var ids []nvmf.NSID
				for id := range nvmf.NSID(nvmf.NSIDListMax) {
					ids = append(ids, id+1)
				}
				k.give(s, nvmf.AppendNSIDList(nil, ids))
				return true
			}
		}, "does not ascend", nvmf.PDUError{}},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			c.stage(f)
			h := newHost(t, 1)
			o := f.options()
			o.AdminTimeout = 500 * time.Millisecond
			names, err := h.in.Attach(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("attached %v, %v; want an error with %q", names, err, c.says)
			}
			if c.term != (nvmf.PDUError{}) {
				f.wantTerm(c.why, c.term)
			}
		})
	}
}

// Namespaces that cannot be devices are passed over; the others are there.
func TestNamespacesThatCannotBeDevices(t *testing.T) {
	for _, c := range []struct {
		why    string
		change func(f *fake)
	}{
		{"metadata", func(f *fake) { f.ns.LBAF[0].MS = 8 }},
		{"protection", func(f *fake) { f.ns.DPS = 1 }},
		{"blocks of 1024 bytes", func(f *fake) { f.ns.LBAF[0].LBADS = 10 }},
		{"another command set", func(f *fake) { f.ids.CSI = 2 }},
		{"no capacity", func(f *fake) { f.ns.NCAP = 0 }},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			c.change(f)
			h := newHost(t, 1)
			if names := h.attach(f.options()); len(names) > 0 {
				t.Errorf("%v", names)
			}
		})
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	key := testKey(t, 1)
	for _, c := range []struct {
		change func(o *Options)
		says   string
	}{
		{func(o *Options) { o.Name = "" }, "no name"},
		{func(o *Options) { o.TrType = "PCIe" }, "trtype"},
		{func(o *Options) { o.TrAddr = "somewhere" }, "traddr"},
		{func(o *Options) { o.AdrFam = "IPv6" }, "adrfam"},
		{func(o *Options) { o.TrSvcID = "nvme" }, "trsvcid"},
		{func(o *Options) { o.TrSvcID = "0" }, "trsvcid"},
		{func(o *Options) { o.SubNQN = "" }, "NQN"},
		{func(o *Options) { o.HostNQN = "me" }, "NQN"},
		{func(o *Options) { o.NumIOQueues = 0 }, "num_io_queues"},
		{func(o *Options) { o.QueueDepth = 0 }, "queue depth"},
		{func(o *Options) { o.QueueDepth = slotsMax }, "queue depth"},
		{func(o *Options) { o.LossTimeout = -2 }, "ctrlr_loss_timeout_sec"},
		{func(o *Options) { o.ReconnectDelay = 0 }, "reconnect_delay_sec"},
		{func(o *Options) { o.FastIOFail = time.Hour }, "fast_io_fail_timeout_sec"},
		{func(o *Options) { o.CtrlKey = key }, "dhchap_ctrlr_key"},
		{func(o *Options) { o.Retries = -2 }, "bdev_retry_count"},
	} {
		o := DefaultOptions()
		o.Name, o.TrAddr, o.SubNQN = "Nvme0", "127.0.0.1", nvmftest.NQN
		c.change(&o)
		if _, err := o.complete(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v; want an error with %q", err, c.says)
		}
	}
	o := DefaultOptions()
	o.Name, o.TrAddr, o.SubNQN = "Nvme0", "::1", nvmftest.NQN
	if addr, err := o.complete(); err != nil || fmt.Sprint(addr) != "[::1]:4420" || o.AdrFam != "IPv6" || !strings.HasPrefix(o.HostNQN, nvmf.NQNUUIDPrefix) {
		t.Errorf("%v, %v, %+v", addr, err, o)
	}
}
