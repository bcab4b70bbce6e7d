package main

import "testing"

func TestDrainAndItsJob(t *testing.T) {
	sh := newShell(t)
	if out := sh.must("job list"); out != "JOB  METHOD  OBJECT  STATE  PROGRESS  STARTED  ERROR\n" {
		t.Errorf("%q", out)
	}
	if out := sh.must("drain"); out != "job 1: done\n" {
		t.Errorf("%q", out)
	}
	if out := sh.must("job wait 1"); out != "job 1: done\n" {
		t.Errorf("%q", out)
	}
	sh.fails("job cancel 1", "it has ended as done")
	sh.fails("job wait 2", `there is no job "2"`)
	sh.must("drain --undo")
	if out := sh.must("drain --no-wait --timeout 60s"); out != "2\n" {
		t.Errorf("%q", out)
	}
	sh.must("job wait 2")
	sh.fails("drain --timeout 10ms", "at least 1s")
}
