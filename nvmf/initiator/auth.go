package initiator

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/pollux-storage/pollux/nvmf"
)

// authenticate proves the host to the controller on a queue, and the controller to the host where that is wanted. The machine
// is nvmf.AuthHost; this runs its steps as commands. It is on a goroutine, so the arithmetic keeps no reactor from its work.
// Base Specification 2.1 section 8.3.4, "NVMe over Fabrics Secure Channel and In-band Authentication".
func (a *association) authenticate(ctx context.Context, q *queue) error {
	h, err := nvmf.NewAuthHost(nvmf.AuthConfig{
		SubNQN: a.o.SubNQN, HostNQN: a.o.HostNQN, HostKey: a.o.HostKey, CtrlKey: a.o.CtrlKey, Hashes: a.o.Hashes, Groups: a.o.Groups,
	})
	if err != nil {
		return err
	}
	var failed error
	for s := h.Start(uint16(rand.Uint32())); ; {
		if s.Err != nil {
			failed = s.Err
		}
		switch s.Do {
		case nvmf.AuthHostSend:
			if err := a.authSend(ctx, q, s.Data); err != nil {
				s = h.Abort(err)
				continue
			}
			s = h.Sent()
		case nvmf.AuthHostReceive:
			data, err := a.authReceive(ctx, q)
			if err != nil {
				s = h.Abort(err)
				continue
			}
			s = h.Received(data)
		case nvmf.AuthHostCompute:
			s.Job.Run()
			s = h.Computed(s.Job)
		case nvmf.AuthHostSucceed:
			q.proved = true
			return nil
		default:
			if failed == nil {
				failed = fmt.Errorf("authenticating queue %d: it did not succeed", q.id)
			}
			return failed
		}
	}
}

func (a *association) authSend(ctx context.Context, q *queue, data []byte) error {
	var sqe nvmf.SQE
	sqe.InitFabrics(nvmf.FabricsAuthSend, 0)
	sqe.SetAuth(uint32(len(data)))
	_, err := q.run(ctx, "Authentication Send", &sqe, data)
	return err
}

func (a *association) authReceive(ctx context.Context, q *queue) ([]byte, error) {
	var sqe nvmf.SQE
	sqe.InitFabrics(nvmf.FabricsAuthReceive, 0)
	sqe.SetAuth(nvmf.AuthReceiveBytes)
	data := make([]byte, nvmf.AuthReceiveBytes)
	_, err := q.run(ctx, "Authentication Receive", &sqe, data)
	return data, err
}
