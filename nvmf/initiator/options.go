package initiator

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// Options say how a controller is attached. Take DefaultOptions and change what is to differ; the names are those of SPDK's
// bdev_nvme_attach_controller.
type Options struct {
	Name    string // of the controller; its devices are Name + "n" + NSID
	TrType  string // TCP or RDMA
	AdrFam  string // IPv4 or IPv6; "" is that of TrAddr
	TrAddr  string
	TrSvcID string // port, "" is 4420
	SubNQN  string
	HostNQN string   // "" is one made of HostID
	HostID  [16]byte // zero: one of this process

	// RDMA is what TrType RDMA connects by. Initiator.Attach knows its own.
	RDMA *rdma.Net
	Link rdma.Link // over RDMA

	HeaderDigest, DataDigest bool // over TCP

	// SQFlow leaves submission queue flow control on, as Linux and SPDK do unless they are told otherwise: the target then owes a response capsule
	// for each read, which without it goes with the data (TCP Transport Specification 1.0, "C2HData", SUCCESS).
	SQFlow bool

	// I/O queues: QueuesPerReactor on each reactor, but NumIOQueues at most, and what the target grants.
	NumIOQueues      int
	QueuesPerReactor int
	QueueDepth       int // commands that a queue sends at once; more wait

	KeepAlive    time.Duration // KATO; 0 is none
	IOTimeout    time.Duration // a target that takes longer for a command is given up; 0 is no limit
	AdminTimeout time.Duration // likewise for Admin commands and each step of connecting

	// A connection that is lost is made again: at once, then after waits that grow up to ReconnectDelay, until LossTimeout has
	// passed since the loss. Then the devices go. 0 lets them go when the first attempt fails; Forever never.
	ReconnectDelay time.Duration
	LossTimeout    time.Duration
	// FastIOFail is how long after the loss requests wait; then they fail, until there is a connection again. 0 lets them wait
	// as long as there is hope.
	FastIOFail time.Duration

	// Retries is how often a request is sent again whose connection was lost, or that the target answered with a passing error;
	// -1 is no limit.
	Retries int

	// DH-HMAC-CHAP. HostKey proves the host where the target asks for it. With CtrlKey the target has to prove itself too, and
	// is refused if it does not ask for authentication.
	HostKey, CtrlKey *nvmf.AuthKey
	Hashes           []nvmf.AuthHash // allowed; none means all
	Groups           []nvmf.DHGroup  // allowed; none means all

	MaxBdevs int // namespaces that become devices
}

// Forever is a LossTimeout that never passes.
const Forever time.Duration = -1

// DefaultOptions are Linux's where it has such an option: it sends a request again five times, and gives a lost controller up
// after ten minutes.
func DefaultOptions() Options {
	return Options{
		TrType: "TCP", NumIOQueues: 1024, QueuesPerReactor: 1, QueueDepth: 127,
		KeepAlive: 10 * time.Second, IOTimeout: 30 * time.Second, AdminTimeout: 60 * time.Second,
		ReconnectDelay: 10 * time.Second, LossTimeout: 10 * time.Minute, Retries: 5, MaxBdevs: 128,
	}
}

// processHostID is the host identifier where none is given: another host each time.
var processHostID = uuid.New()

// complete fills in what follows from the rest, and refuses what cannot be.
func (o *Options) complete() (addr netip.AddrPort, err error) {
	bad := func(format string, a ...any) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("attaching controller %q: %w: %s", o.Name, bdev.ErrInvalid, fmt.Sprintf(format, a...))
	}
	if o.Name == "" {
		return bad("it has no name")
	}
	switch o.TrType = strings.ToUpper(o.TrType); {
	case o.TrType == "TCP":
		o.RDMA = nil
	case o.TrType != "RDMA":
		return bad("trtype %s: TCP and RDMA are what this build speaks", o.TrType)
	case o.RDMA == nil:
		return bad("trtype RDMA: there is no RDMA here")
	case o.HeaderDigest || o.DataDigest:
		return bad("hdgst and ddgst are of TCP: over RDMA the card checks what it carries")
	}
	ip, err := netip.ParseAddr(o.TrAddr)
	if err != nil {
		return bad("traddr %q: an IPv4 or IPv6 address", o.TrAddr)
	}
	family := "IPv6"
	if ip.Unmap().Is4() {
		family = "IPv4"
	}
	if o.AdrFam == "" {
		o.AdrFam = family
	}
	if !strings.EqualFold(o.AdrFam, family) {
		return bad("adrfam %s: %s is %s", o.AdrFam, o.TrAddr, family)
	}
	o.AdrFam = family
	if o.TrSvcID == "" {
		o.TrSvcID = "4420"
	}
	port, err := strconv.ParseUint(o.TrSvcID, 10, 16)
	if err != nil || port == 0 {
		return bad("trsvcid %q: a port number", o.TrSvcID)
	}
	if o.HostID == [16]byte{} {
		o.HostID = processHostID
	}
	if o.HostNQN == "" {
		o.HostNQN = nvmf.NQNUUIDPrefix + uuid.UUID(o.HostID).String()
	}
	for _, nqn := range []string{o.SubNQN, o.HostNQN} {
		if err := nvmf.CheckNQN(nqn); err != nil {
			return bad("%v", err)
		}
	}
	switch {
	case o.NumIOQueues < 1:
		return bad("num_io_queues %d: 1 or more", o.NumIOQueues)
	case o.QueuesPerReactor < 1:
		return bad("%d queues per reactor: 1 or more", o.QueuesPerReactor)
	case o.QueueDepth < 1 || o.QueueDepth > slotsMax-1:
		return bad("queue depth %d: 1 to %d", o.QueueDepth, slotsMax-1)
	case o.AdminTimeout <= 0:
		return bad("admin timeout %v: above 0", o.AdminTimeout)
	case o.Retries < -1:
		return bad("bdev_retry_count %d: -1 for no limit, or 0 or more", o.Retries)
	case o.KeepAlive < 0 || o.IOTimeout < 0 || o.FastIOFail < 0:
		return bad("a timeout below 0")
	case o.LossTimeout < 0 && o.LossTimeout != Forever:
		return bad("ctrlr_loss_timeout_sec %v: -1 for no limit, or 0 or more", o.LossTimeout)
	case o.LossTimeout != 0 && o.ReconnectDelay <= 0:
		return bad("reconnect_delay_sec 0 with a ctrlr_loss_timeout_sec: set both or none")
	case o.LossTimeout > 0 && o.FastIOFail > o.LossTimeout:
		return bad("fast_io_fail_timeout_sec %v is longer than ctrlr_loss_timeout_sec %v", o.FastIOFail, o.LossTimeout)
	case o.CtrlKey != nil && o.HostKey == nil:
		return bad("dhchap_ctrlr_key without dhchap_key: a target proves itself to a host that does")
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

func (o *Options) digests() (d nvmf.Digests) {
	if o.HeaderDigest {
		d |= nvmf.HeaderDigests
	}
	if o.DataDigest {
		d |= nvmf.DataDigests
	}
	return d
}

// connectAttributes gives CATTR of Connect.
func (o *Options) connectAttributes() uint8 {
	if o.SQFlow {
		return 0
	}
	return nvmf.CATTRNoFlow
}

func ticks(d time.Duration) reactor.Ticks { return reactor.Ticks(d) }
