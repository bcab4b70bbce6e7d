package ctl

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
)

// TestMoveQpair: a queue of a host that has proved itself goes where it is told, and is known there as it was before.
func TestMoveQpair(t *testing.T) {
	target, host := startReactors(t, 2), startEngine(t)
	port := exportLoop(t, target)
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := target.Methods
	addKeys(t, m, 1, "hk")
	addKeys(t, host.Methods, 1, "hk")
	must(t, m, api.NVMFSubsystemAllowAnyHost, api.NVMFAllowAnyHostParams{NQN: loopNQN})
	must(t, m, api.NVMFSubsystemAddHost, api.NVMFAddHostParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "hk"})
	must(t, host.Methods, api.BdevNVMeAttachController, api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN, HostNQN: keyedHost, DHCHAPKey: "hk"})
	queue := func() api.NVMFQpair {
		t.Helper()
		q := must(t, m, api.NVMFSubsystemGetQpairs, api.NVMFSubsystemParams{NQN: loopNQN})
		if len(q) != 2 || q[0].QID != 0 || q[1].QID != 1 {
			t.Fatalf("%+v", q)
		}
		return q[1]
	}
	before := queue()
	move := api.NVMFMoveQpairParams{NQN: loopNQN, CntlID: before.CntlID, QID: 1}
	for _, thread := range []string{"reactor_1", "reactor_0", "reactor_0", "reactor_1"} {
		move.Thread = thread
		must(t, m, api.NVMFSubsystemMoveQpair, move)
		now := queue()
		if now.Thread != thread {
			t.Errorf("it is on %s, want %s", now.Thread, thread)
		}
		now.Thread = before.Thread
		if diff := cmp.Diff(before, now); diff != "" {
			t.Error(diff)
		}
	}
	// It proves itself again, with another key, where it has come to.
	addKeys(t, m, 2, "next")
	addKeys(t, host.Methods, 2, "next")
	must(t, m, api.NVMFSubsystemSetKeys, api.NVMFSetKeysParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "next"})
	next, err := host.authKey("next")
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Initiator.SetKeys(t.Context(), "Nvme0", next, nil); err != nil {
		t.Fatal(err)
	}
	if now := queue(); now.Thread != "reactor_1" || now.Auth == nil || now.Auth.State != "completed" {
		t.Errorf("after it has proved itself again: %+v", now)
	}
	stats := must(t, m, api.NVMFGetStats, api.NVMFTarget{})
	in, out := uint64(0), uint64(0)
	for _, g := range stats.PollGroups {
		in, out = in+g.IOQpairsMovedIn, out+g.IOQpairsMovedOut
	}
	if in != out || in < 2 || in > 3 {
		t.Errorf("%d moved in, %d moved out", in, out)
	}
	move.Thread = "reactor_2"
	refused(t, m, api.NVMFSubsystemMoveQpair, move, api.CodeInvalidParams, "framework_get_reactors")
	move.Thread, move.QID = "reactor_0", 9
	refused(t, m, api.NVMFSubsystemMoveQpair, move, api.CodeInvalidParams, "no I/O queue 9")
	must(t, host.Methods, api.BdevNVMeDetachController, api.BdevNVMeDetachControllerParams{Name: "Nvme0"})
}

// TestScheduler: queues move between reactors unless static is chosen, which a saved configuration remembers.
func TestScheduler(t *testing.T) {
	e := startReactors(t, 2)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := e.Methods
	if s := must(t, m, api.FrameworkGetScheduler, api.None{}); s.SchedulerName != "dynamic" || s.SchedulerPeriod != 1000000 {
		t.Errorf("an engine begins with %+v", s)
	}
	must(t, m, api.FrameworkSetScheduler, api.SetSchedulerParams{Name: "static"})
	if s := must(t, m, api.FrameworkGetScheduler, api.None{}); s.SchedulerName != "static" || e.Target.Balancing().Move {
		t.Errorf("%+v, %+v", s, e.Target.Balancing())
	}
	calls := must(t, m, api.FrameworkGetConfig, api.FrameworkGetConfigParams{Name: "scheduler"})
	if calls == nil || len(*calls) != 1 || (*calls)[0].Method != "framework_set_scheduler" {
		t.Errorf("saved: %+v", calls)
	}
	must(t, m, api.FrameworkSetScheduler, api.SetSchedulerParams{Name: "dynamic", Period: 20000, CoreBusy: 70})
	if s, b := must(t, m, api.FrameworkGetScheduler, api.None{}), e.Target.Balancing(); s.SchedulerName != "dynamic" || s.SchedulerPeriod != 20000 || !b.Move || b.Hot != 70 {
		t.Errorf("%+v, %+v", s, b)
	}
	if _, err := api.FrameworkSetScheduler.Call(t.Context(), m, api.SetSchedulerParams{Name: "gscheduler"}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	refused(t, m, api.FrameworkSetScheduler, api.SetSchedulerParams{Name: "dynamic", Period: 1}, api.CodeInvalidParams, "period")
}
