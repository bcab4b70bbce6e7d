package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pollux-storage/pollux/nvmf/initiator"
	"github.com/pollux-storage/pollux/rdma/ibverbs"
)

// controllerName is the name of the one controller that a rig attaches.
const controllerName = "Nvme0"

// attachMax is how long attaching may take.
const attachMax = 30 * time.Second

// parseRemote reads tcp://host:port/NQN?nsid=1&hostnqn=…&hdgst=1&ddgst=1&sqflow=1, and the same with rdma.
func parseRemote(s string) (TargetSpec, error) {
	t := TargetSpec{Kind: "tcp", NSID: 1, Remote: initiator.DefaultOptions()}
	u, err := url.Parse(s)
	if err != nil {
		return t, err
	}
	t.Kind = u.Scheme
	o := &t.Remote
	o.Name, o.TrType = controllerName, u.Scheme
	o.SubNQN = strings.TrimPrefix(u.Path, "/")
	if u.Hostname() == "" || o.SubNQN == "" {
		return t, fmt.Errorf("an address and a subsystem are needed")
	}
	o.TrAddr, o.TrSvcID = u.Hostname(), u.Port()
	for k, v := range u.Query() {
		switch value := v[len(v)-1]; k {
		case "nsid":
			if t.NSID, err = strconv.ParseUint(value, 10, 32); err != nil || t.NSID == 0 {
				return t, fmt.Errorf("nsid %q: a number from 1 on", value)
			}
		case "hostnqn":
			o.HostNQN = value
		case "hdgst":
			o.HeaderDigest = value == "1"
		case "ddgst":
			o.DataDigest = value == "1"
		case "sqflow":
			o.SQFlow = value == "1"
		case "queues":
			if o.QueuesPerReactor, err = strconv.Atoi(value); err != nil || o.QueuesPerReactor < 1 {
				return t, fmt.Errorf("queues %q: how many connections each reactor makes, from 1 on", value)
			}
		default:
			return t, fmt.Errorf("nothing is called %q: nsid, hostnqn, hdgst, ddgst, sqflow and queues are", k)
		}
	}
	return t, nil
}

// String writes the target as ParseTarget reads it, but for its options.
func (t *TargetSpec) String() string {
	switch t.Kind {
	case "tcp", "rdma":
		return t.Kind + "://" + net.JoinHostPort(t.Remote.TrAddr, t.Remote.TrSvcID) + "/" + t.Remote.SubNQN
	case "mem", "null":
		return t.Kind + ":" + FormatBytes(t.Bytes)
	case "iscsi":
		return t.Path
	}
	return t.Kind + ":" + t.Path
}

// attach connects to the remote device.
func (r *Rig) attach() (name string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), attachMax)
	defer cancel()
	hosts := initiator.New(r.reg, slog.New(slog.DiscardHandler))
	hosts.UseRDMA(ibverbs.Open)
	o := r.spec.Remote
	if o.TrAddr == "localhost" {
		o.TrAddr = "127.0.0.1"
	}
	o.LossTimeout = 30 * time.Second // a target that went away for good should not keep a measurement
	names, err := hosts.Attach(ctx, o)
	if err != nil {
		_ = hosts.Close(ctx)
		return "", fmt.Errorf("target %s: %w", r.spec.String(), err)
	}
	r.hosts = hosts
	want := controllerName + "n" + strconv.FormatUint(r.spec.NSID, 10)
	for _, n := range names {
		if n == want {
			return n, nil
		}
	}
	err = fmt.Errorf("target %s: the subsystem has no namespace %d for this host; it has %d others", r.spec.String(), r.spec.NSID, len(names))
	_ = r.remove(want)
	return "", err
}
