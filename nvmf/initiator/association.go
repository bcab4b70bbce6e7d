package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is an association with a controller: how it is made and ended. Base Specification 2.0, "NVMe over Fabrics
// Controller Initialization":
//
//  1. connect the Admin queue: TCP, ICReq, Connect, authentication
//  2. read CAP, set CC.EN, wait for CSTS.RDY
//  3. Identify Controller; keep-alive begins
//  4. set the Number of Queues and the events; connect the I/O queues
//
// It runs on a goroutine of the controller, one step after another. A queue that is lost ends all of it.

// adminEntries is the size of the Admin queue, as Linux has it.
const adminEntries = 32

// adminDataMax is what a command of ours on it moves, but for an ANA log page that is larger.
const adminDataMax = 8192

// association is one controller of a target, and our queues of it.
type association struct {
	o     *Options
	log   *slog.Logger
	addr  netip.AddrPort
	group *reactor.Group
	home  *reactor.Reactor // of the Admin queue
	first int              // index of the reactor with I/O queue 1

	admin  *queue
	io     []*queue
	keeper keeper

	cntlid  nvmf.CNTLID
	cap     nvmf.CAP
	version uint32
	id      nvmf.IdentifyController

	aborts    int // open Abort commands; the home's
	abortsMax int

	events chan nvmf.Event
	lost   chan error // hears once why a queue ended
}

// errClosed is why we end queues.
var errClosed = errors.New("closed by this host")

func newAssociation(o *Options, log *slog.Logger, addr netip.AddrPort, g *reactor.Group, home, first int) *association {
	return &association{
		o: o, log: log, addr: addr, group: g, home: g.Reactor(home), first: first,
		events: make(chan nvmf.Event, eventsMax), lost: make(chan error, 1),
	}
}

// tellLost notes that a queue ended. It runs on any reactor.
func (a *association) tellLost(why error) {
	select {
	case a.lost <- why:
	default: // one reason is enough
	}
}

// slotFree and queueLost make the association the user of its Admin queue.
func (a *association) slotFree() {}

func (a *association) queueLost(_ *queue, why error) { a.tellLost(why) }

// connect makes the association, or nothing.
func (a *association) connect(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := a.connectAdmin(ctx); err != nil {
		return err
	}
	if a.id, err = a.identify(ctx); err != nil {
		return err
	}
	if err := a.checkController(); err != nil {
		return err
	}
	if err := a.watch(ctx); err != nil {
		return err
	}
	return a.connectIO(ctx)
}

// step bounds one step of connecting.
func (a *association) step(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.o.AdminTimeout)
}

// connectAdmin makes the Admin queue and enables the controller.
func (a *association) connectAdmin(ctx context.Context) (err error) {
	a.admin, err = a.open(ctx, a.home, queueOptions{
		id: 0, addr: a.addr, entries: adminEntries, dataMax: adminDataMax, capsule: nvmf.AdminCapsuleBytesMax, digests: a.o.digests(), timeout: ticks(a.o.AdminTimeout),
	})
	if err != nil {
		return err
	}
	if err := a.home.Call(func() { a.admin.user = a }); err != nil {
		return err
	}
	return a.enable(ctx)
}

// open makes a queue: the transport's connection, Connect, and authentication where the target wants it.
func (a *association) open(ctx context.Context, r *reactor.Reactor, o queueOptions) (*queue, error) {
	ctx, cancel := a.step(ctx)
	defer cancel()
	o.link = a.o.Link
	q := newQueue(r, o, a.o.RDMA)
	if err := q.wire.begin(); err != nil {
		return nil, err
	}
	var err error
	select {
	case err = <-q.opened:
	case <-ctx.Done():
		err = fmt.Errorf("connecting to %v: no answer: %w", a.addr, ctx.Err())
	}
	if err == nil {
		err = a.connectQueue(ctx, q)
	}
	if err != nil {
		closeQueue(q)
		return nil, err
	}
	return q, nil
}

// closeQueue ends a queue and waits for that.
func closeQueue(q *queue) {
	_ = q.r.Go(func() { q.fail(errClosed) })
	<-q.closed
}

// connectQueue sends Connect.
func (a *association) connectQueue(ctx context.Context, q *queue) error {
	var sqe nvmf.SQE
	sqe.InitFabrics(nvmf.FabricsConnect, 0)
	d := nvmf.ConnectData{HOSTID: a.o.HostID, CNTLID: a.cntlid, SUBNQN: a.o.SubNQN, HOSTNQN: a.o.HostNQN}
	var kato uint32
	if q.id == 0 {
		d.CNTLID = nvmf.CNTLIDDynamic
		kato = uint32(min(a.o.KeepAlive.Milliseconds(), math.MaxUint32))
	}
	sqe.SetConnect(q.id, q.entries, a.o.connectAttributes(), kato)
	cqe, err := q.run(ctx, fmt.Sprintf("connecting host %s to %s, queue %d", a.o.HostNQN, a.o.SubNQN, q.id), &sqe, d.AppendTo(nil))
	var refused *StatusError
	if errors.As(err, &refused) {
		return connectRefused(refused)
	}
	if err != nil {
		return err
	}
	if q.id == 0 {
		a.cntlid = nvmf.CNTLID(cqe.DW0)
	}
	switch asked := cqe.DW0&(nvmf.ConnectATR|nvmf.ConnectASCR) != 0; {
	case cqe.DW0&nvmf.ConnectASCR != 0:
		return fmt.Errorf("connecting to %s: the target wants a secure channel (TLS), which this host does not have", a.o.SubNQN)
	case asked && a.o.HostKey == nil:
		return fmt.Errorf("connecting to %s: the target wants host %s to authenticate: give its DH-HMAC-CHAP key (dhchap_key)", a.o.SubNQN, a.o.HostNQN)
	case asked, q.id == 0 && a.o.CtrlKey != nil:
		// A target that does not ask has not proved itself either, so a host that wants its proof asks by itself.
		return a.authenticate(ctx, q)
	}
	return nil
}

// connectRefused explains the status of a Connect.
func connectRefused(e *StatusError) error {
	hint := ""
	switch e.Status.Code() {
	case nvmf.StatusConnectParameters:
		switch nvmf.IPO(e.DW0) {
		case nvmf.IPOSUBNQN:
			hint = "it has no such subsystem"
		case nvmf.IPOHOSTNQN:
			hint = "it does not take this host's name"
		case nvmf.IPOSQSIZE:
			hint = "the queue is too large or too small for it"
		case nvmf.IPOCNTLID:
			hint = "it has no such controller"
		default:
			hint = fmt.Sprintf("parameter %Xh", e.DW0)
		}
	case nvmf.StatusConnectHost:
		hint = "this host may not connect: allow it there (nvmf_subsystem_add_host)"
	}
	if hint == "" {
		return e
	}
	return fmt.Errorf("%w: %s", e, hint)
}

// getProperty reads a property of 4 or 8 bytes.
func (a *association) getProperty(ctx context.Context, what string, offset uint32, bytes int) (uint64, error) {
	ctx, cancel := a.step(ctx)
	defer cancel()
	var sqe nvmf.SQE
	sqe.InitFabrics(nvmf.FabricsPropertyGet, 0)
	sqe.SetProperty(offset, bytes, 0)
	cqe, err := a.admin.run(ctx, "reading property "+what, &sqe, nil)
	return uint64(cqe.DW1)<<32 | uint64(cqe.DW0), err
}

// setCC writes CC.
func (a *association) setCC(ctx context.Context, cc nvmf.CC) error {
	ctx, cancel := a.step(ctx)
	defer cancel()
	var sqe nvmf.SQE
	sqe.InitFabrics(nvmf.FabricsPropertySet, 0)
	sqe.SetProperty(nvmf.PropertyCC, 4, uint64(cc))
	_, err := a.admin.run(ctx, "writing property CC", &sqe, nil)
	return err
}

// awaitCSTS waits until the bits in mask are want.
func (a *association) awaitCSTS(ctx context.Context, mask, want nvmf.CSTS, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var csts nvmf.CSTS
	answered := false
	late := func() error {
		return fmt.Errorf("the controller did not change its state (CSTS %Xh) in %v", uint32(csts), limit)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		v, err := a.getProperty(limited, "CSTS", nvmf.PropertyCSTS, 4)
		switch {
		case err != nil && answered && limited.Err() != nil && ctx.Err() == nil: // while it was asked once more
			return late()
		case err != nil:
			return err
		}
		answered, csts = true, nvmf.CSTS(v)
		switch {
		case csts&mask == want:
			return nil
		case csts&nvmf.CSTSCFS != 0:
			return errors.New("the controller reports a fatal error (CSTS.CFS)")
		}
		select {
		case <-time.After(pause):
		case <-limited.Done():
			return late()
		}
	}
}

// enable makes the controller ready.
func (a *association) enable(ctx context.Context) error {
	v, err := a.getProperty(ctx, "CAP", nvmf.PropertyCAP, 8)
	if err != nil {
		return err
	}
	if a.cap = nvmf.CAP(v); !a.cap.NVM() {
		return fmt.Errorf("the controller has no NVM command set (CAP %Xh)", v)
	}
	if v, err = a.getProperty(ctx, "VS", nvmf.PropertyVS, 4); err != nil {
		return err
	}
	a.version = uint32(v)
	if v, err = a.getProperty(ctx, "CSTS", nvmf.PropertyCSTS, 4); err != nil {
		return err
	}
	limit, err := a.readyTimeout(ctx)
	if err != nil {
		return err
	}
	if nvmf.CSTS(v)&nvmf.CSTSRDY != 0 { // from another's use
		if err = a.disable(ctx, limit); err != nil {
			return err
		}
	}
	cc := nvmf.CCEnable
	for page := uint64(4096); page < a.cap.PageBytesMin(); page *= 2 {
		cc += 1 << 7 // MPS
	}
	if err = a.setCC(ctx, cc); err == nil {
		err = a.awaitCSTS(ctx, nvmf.CSTSRDY, nvmf.CSTSRDY, limit)
	}
	if err != nil {
		return fmt.Errorf("enabling the controller of %s: %w", a.o.SubNQN, err)
	}
	return nil
}

// disable clears CC.EN: the controller drops its queues and what was open on them.
func (a *association) disable(ctx context.Context, limit time.Duration) error {
	err := a.setCC(ctx, nvmf.CCEnable&^1)
	if err == nil {
		err = a.awaitCSTS(ctx, nvmf.CSTSRDY, 0, limit)
	}
	if err != nil {
		return fmt.Errorf("disabling the controller of %s: %w", a.o.SubNQN, err)
	}
	return nil
}

// readyTimeout is how long CSTS.RDY may take to follow CC.EN: CAP.TO, and where it says so CRTO.CRWMT, in 500 ms.
func (a *association) readyTimeout(ctx context.Context) (time.Duration, error) {
	units := uint64(a.cap.TO())
	if a.cap.CRWMS() {
		v, err := a.getProperty(ctx, "CRTO", nvmf.PropertyCRTO, 4)
		if err != nil {
			return 0, err
		}
		units = max(units, v&0xFFFF)
	}
	return max(time.Duration(units)*500*time.Millisecond, time.Second), nil
}

// command runs an Admin command.
func (a *association) command(ctx context.Context, what string, sqe *nvmf.SQE, data []byte) (nvmf.CQE, error) {
	ctx, cancel := a.step(ctx)
	defer cancel()
	return a.admin.run(ctx, what, sqe, data)
}

// identifyPage runs an Identify.
func (a *association) identifyPage(ctx context.Context, cns nvmf.CNS, id nvmf.NSID) ([]byte, error) {
	var sqe nvmf.SQE
	sqe.Init(uint8(nvmf.AdminIdentify), 0, id)
	sqe.SetIdentify(cns, nvmf.CSINVM, 0)
	page := make([]byte, nvmf.IdentifyBytes)
	_, err := a.command(ctx, fmt.Sprintf("Identify %02Xh of namespace %d", uint8(cns), id), &sqe, page)
	return page, err
}

// identify asks what the controller is.
func (a *association) identify(ctx context.Context) (id nvmf.IdentifyController, err error) {
	page, err := a.identifyPage(ctx, nvmf.CNSController, 0)
	if err == nil {
		id, _ = nvmf.DecodeIdentifyController(page)
	}
	return id, err
}

// checkController refuses what the rest could not work with, as Linux does.
func (a *association) checkController() error {
	bad := func(format string, v ...any) error {
		return fmt.Errorf("controller %d of %s: %s", a.cntlid, a.o.SubNQN, fmt.Sprintf(format, v...))
	}
	switch c := &a.id; {
	case c.CNTLID != a.cntlid:
		return bad("it identifies itself as %d", c.CNTLID)
	case c.CNTRLTYPE == nvmf.ControllerDiscovery:
		return bad("it is a discovery controller, which has no namespaces")
	case c.SUBNQN != "" && c.SUBNQN != a.o.SubNQN:
		return bad("it belongs to %s", c.SUBNQN)
	case c.KAS == 0 && a.o.KeepAlive > 0:
		return bad("it does not support keep-alive (KAS 0)")
	case c.IOCCSZ < nvmf.SQEBytes/16 || c.IORCSZ < nvmf.CQEBytes/16:
		return bad("its capsules are too small: IOCCSZ %d, IORCSZ %d", c.IOCCSZ, c.IORCSZ)
	case c.SGLS&3 == 0:
		return bad("it takes no SGLs (SGLS %Xh)", c.SGLS)
	case a.o.RDMA != nil && c.SGLS&nvmf.SGLSKeyed == 0:
		return bad("it takes no keyed SGLs (SGLS %Xh), without which no data goes over RDMA", c.SGLS)
	}
	return nil
}

// watch begins keep-alive and asks for events.
func (a *association) watch(ctx context.Context) error {
	a.abortsMax = int(a.id.ACL) + 1
	if err := a.home.Call(func() { a.keeper.start(a) }); err != nil {
		return err
	}
	config := a.id.OAES & (nvmf.OAESNamespaces | nvmf.OAESANA)
	if config == 0 {
		return nil
	}
	var sqe nvmf.SQE
	sqe.Init(uint8(nvmf.AdminSetFeatures), 0, 0)
	sqe.SetFID(nvmf.FIDEvents, config)
	if _, err := a.command(ctx, "asking for events", &sqe, nil); err != nil {
		return err
	}
	for range min(int(a.id.AERL)+1, eventsMax, len(a.admin.commands)-adminSpare) {
		a.armEvent()
	}
	return nil
}

// connectIO makes the I/O queues.
func (a *association) connectIO(ctx context.Context) error {
	n := a.group.Len()
	want := uint32(min(a.o.NumIOQueues, a.o.QueuesPerReactor*n, math.MaxUint16))
	var sqe nvmf.SQE
	sqe.Init(uint8(nvmf.AdminSetFeatures), 0, 0)
	sqe.SetFID(nvmf.FIDQueues, nvmf.Queues{Submission: want, Completion: want}.Encode())
	cqe, err := a.command(ctx, "asking for I/O queues", &sqe, nil)
	if err != nil {
		return err
	}
	granted := nvmf.DecodeQueues(cqe.DW0)
	entries := min(uint32(a.o.QueueDepth)+1, a.cap.QueueEntries())
	if a.id.MAXCMD > 0 {
		entries = min(entries, uint32(a.id.MAXCMD)+1)
	}
	if entries < 2 {
		return fmt.Errorf("controller %d of %s: its queues hold no command", a.cntlid, a.o.SubNQN)
	}
	capsule := uint32(min(a.id.CapsuleDataBytes(), math.MaxInt32))
	if a.id.ICDOFF != 0 || a.o.RDMA != nil && a.id.SGLS&nvmf.SGLSOffset == 0 {
		capsule = 0 // data would not follow the command at once, which TCP does not have, or there is none in capsules
	}
	for i := range int(min(want, granted.Submission, granted.Completion)) {
		q, err := a.open(ctx, a.group.Reactor((a.first+i)%n), queueOptions{
			id: nvmf.QID(i + 1), addr: a.addr, entries: entries, capsule: capsule, digests: a.o.digests(), timeout: ticks(a.o.IOTimeout),
			cntlid: a.cntlid, dataMax: a.id.TransferBytesMax(a.cap.PageBytesMin()),
		})
		if err != nil {
			return err
		}
		a.io = append(a.io, q)
	}
	return nil
}

// close ends every queue, and returns when nothing of them is in use any more.
func (a *association) close() {
	if a.admin == nil {
		return
	}
	_ = a.home.Call(a.keeper.stop)
	queues := append(a.io[:len(a.io):len(a.io)], a.admin)
	for _, q := range queues {
		_ = q.r.Go(func() { q.fail(errClosed) })
	}
	for _, q := range queues {
		<-q.closed
	}
}

// shutdown tells the controller that its host goes, and waits until it has seen to its data. Base Specification 2.0, "Shutdown
// Processing".
func (a *association) shutdown(ctx context.Context) error {
	limit := max(time.Duration(a.id.RTD3E)*time.Microsecond, shutdownTimeout)
	err := a.setCC(ctx, nvmf.CCEnable.WithSHN(nvmf.SHNNormal))
	if err == nil {
		err = a.awaitCSTS(ctx, nvmf.CSTSShutMask, nvmf.CSTSShutDone, limit)
	}
	return err
}

// shutdownTimeout is how long a controller gets that says nothing, as Linux's shutdown_timeout.
const shutdownTimeout = 5 * time.Second
