package ctl

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

func newBase(t *testing.T, c *api.Client, name string) {
	must(t, c, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: name, NumBlocks: 16384, BlockSize: 512, UUID: "fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2"})
}

// savedMethods are the methods of a saved subsystem.
func savedMethods(t *testing.T, c *api.Client) []string {
	calls := must(t, c, api.FrameworkGetConfig, api.FrameworkGetConfigParams{Name: "bdev"})
	var names []string
	for _, call := range *calls {
		names = append(names, call.Method)
	}
	if n := len(names) - 1; n < 0 || names[n] != "bdev_wait_for_examine" {
		t.Errorf("the last call saved of bdev is not bdev_wait_for_examine: %v", names)
	}
	return slices.DeleteFunc(names, func(m string) bool { return m == "bdev_wait_for_examine" })
}

func TestLayersAreMadeSavedAndDeleted(t *testing.T) {
	e, c := dialEngine(t)
	newBase(t, c, "m0")
	names := must(t, c, api.BdevSplitCreate, api.BdevSplitCreateParams{BaseBdev: "m0", SplitCount: 2, SplitSizeMB: 4})
	if !slices.Equal(names, []string{"m0p0", "m0p1"}) {
		t.Fatal(names)
	}
	if n := must(t, c, api.BdevPassthruCreate, api.BdevPassthruCreateParams{Name: "p0", BaseBdevName: "m0p0"}); n != "p0" {
		t.Error(n)
	}
	must(t, c, api.BdevDelayCreate, api.BdevDelayCreateParams{Name: "d0", BaseBdevName: "p0", AvgReadLatency: 1, P99ReadLatency: 2, AvgWriteLatency: 3, P99WriteLatency: 4})
	must(t, c, api.BdevDelayUpdateLatency, api.BdevDelayUpdateLatencyParams{DelayBdevName: "d0", LatencyType: "p99_read", LatencyUS: 7})
	must(t, c, api.BdevErrorCreate, api.BdevErrorCreateParams{BaseName: "d0"})
	must(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "EE_d0", RWIOsPerSec: new(uint64(1500)), RMBytesPerSec: new(uint64(3))})
	must(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "EE_d0", WMBytesPerSec: new(uint64(5))})

	top := must(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "EE_d0"})[0]
	if diff := cmp.Diff(api.RateLimits{RWIOsPerSec: 2000, RMBytesPerSec: 3, WMBytesPerSec: 5}, top.AssignedRateLimits); diff != "" || top.NumBlocks != 8192 {
		t.Error(diff, top)
	}
	slow := must(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "d0"})[0]
	if d, ok := slow.DriverSpecific["delay"].(map[string]any); !ok || d["p99_read_latency"] != 7.0 || d["avg_write_latency"] != 3.0 {
		t.Errorf("%+v", slow.DriverSpecific)
	}
	if !must(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "m0"})[0].Claimed {
		t.Error("a device with parts is not claimed")
	}
	want := []string{"bdev_malloc_create", "bdev_split_create", "bdev_passthru_create", "bdev_delay_create", "bdev_error_create", "bdev_set_qos_limit"}
	if got := savedMethods(t, c); !slices.Equal(got, want) {
		t.Errorf("saved %v", got)
	}
	text := reload(t, c, "bdev")
	for _, want := range []string{`"p99_read_latency": 7`, `"rw_ios_per_sec": 2000`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	u := openDevice(t, e, "EE_d0")
	if s := u.do(e, bdev.Write, make([]byte, 512)); s != bdev.StatusOK {
		t.Error(s)
	}
	u.close()

	must(t, c, api.BdevErrorDelete, api.BdevNameParams{Name: "EE_d0"})
	must(t, c, api.BdevDelayDelete, api.BdevNameParams{Name: "d0"})
	must(t, c, api.BdevPassthruDelete, api.BdevNameParams{Name: "p0"})
	must(t, c, api.BdevSplitDelete, api.BdevSplitDeleteParams{BaseBdev: "m0"})
	if got := savedMethods(t, c); !slices.Equal(got, []string{"bdev_malloc_create"}) {
		t.Errorf("saved %v", got)
	}
	must(t, c, api.BdevSplitCreate, api.BdevSplitCreateParams{BaseBdev: "m0", SplitCount: 2})
	must(t, c, api.BdevMallocDelete, api.BdevNameParams{Name: "m0"})
	if got := savedMethods(t, c); len(got) != 0 {
		t.Errorf("the device below is gone, and there is saved %v", got)
	}
}

func TestLayersSayWhatTheyRefuse(t *testing.T) {
	_, c := dialEngine(t)
	newBase(t, c, "m0")
	must(t, c, api.BdevPassthruCreate, api.BdevPassthruCreateParams{Name: "p0", BaseBdevName: "m0"})
	refused(t, c, api.BdevPassthruCreate, api.BdevPassthruCreateParams{Name: "p1", BaseBdevName: "m0"}, -16, "p1")
	refused(t, c, api.BdevPassthruCreate, api.BdevPassthruCreateParams{Name: "p1", BaseBdevName: "none"}, -19, "none")
	refused(t, c, api.BdevDelayDelete, api.BdevNameParams{Name: "p0"}, -22, "not a slow device")
	refused(t, c, api.BdevDelayCreate, api.BdevDelayCreateParams{Name: "d0", BaseBdevName: "p0", AvgReadLatency: 1 << 60}, -22, "at most an hour")
	refused(t, c, api.BdevDelayUpdateLatency, api.BdevDelayUpdateLatencyParams{DelayBdevName: "p0", LatencyType: "avg_read"}, -22, "not a slow device")
	refused(t, c, api.BdevSplitDelete, api.BdevSplitDeleteParams{BaseBdev: "p0"}, -19, "p0")
	refused(t, c, api.BdevSplitCreate, api.BdevSplitCreateParams{BaseBdev: "p0", SplitCount: 2, SplitSizeMB: 1 << 50}, -22, "more than any device has")
	refused(t, c, api.BdevErrorInjectError, api.BdevErrorInjectErrorParams{Name: "p0", IOType: "read", ErrorType: "failure"}, -22, "not a failing device")
	refused(t, c, api.BdevErrorResumePending, api.BdevNameParams{Name: "none"}, -19, "none")
	refused(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "p0"}, -22, "no limit is named")
	refused(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "p0", RWIOsPerSec: new(uint64(1 << 63))}, -22, "more than any device does")
	refused(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "p0", WMBytesPerSec: new(uint64(1 << 63))}, -22, "more than any device does")
	refused(t, c, api.BdevSetQoSLimit, api.BdevSetQoSLimitParams{Name: "none", RWIOsPerSec: new(uint64(0))}, -19, "none")
}

func TestInjectedErrors(t *testing.T) {
	e, c := dialEngine(t)
	newBase(t, c, "m0")
	must(t, c, api.BdevErrorCreate, api.BdevErrorCreateParams{BaseName: "m0"})
	u := openDevice(t, e, "EE_m0")
	defer u.close()
	inject := func(io, how string, num uint32) {
		must(t, c, api.BdevErrorInjectError, api.BdevErrorInjectErrorParams{Name: "EE_m0", IOType: io, ErrorType: how, Num: &num, CorruptOffset: 3, CorruptValue: 0x80, NVMeSCT: 2, NVMeSC: 0x81})
	}
	block := make([]byte, 512)
	want := func(why string, k bdev.Kind, want bdev.Status) *bdev.Request {
		t.Helper()
		q := u.submit(e, k, block)
		<-q.Done.(ended)
		if q.Status != want {
			t.Errorf("%s: %v ends with %v, want %v", why, k, q.Status, want)
		}
		return q
	}
	inject("write", "failure", 1)
	want("others pass", bdev.Read, bdev.StatusOK)
	want("the first", bdev.Write, bdev.StatusIO)
	want("the second", bdev.Write, bdev.StatusOK)

	inject("all", "nvme_failure", 5)
	if q := want("all", bdev.Read, bdev.StatusIO); q.Detail != 0x281 {
		t.Errorf("its detail is %#x", q.Detail)
	}
	inject("clear", "failure", 1)
	want("after clear", bdev.Read, bdev.StatusOK)
	inject("read", "failure", 5)
	inject("read", "failure", 0)
	want("after num 0", bdev.Read, bdev.StatusOK)

	inject("read", "corrupt_data", 1)
	want("corrupted", bdev.Read, bdev.StatusOK)
	if expect := append([]byte{0, 0, 0, 0x80}, make([]byte, 508)...); !bytes.Equal(block, expect) {
		t.Errorf("read % x", block[:8])
	}
	refused(t, c, api.BdevErrorInjectError, api.BdevErrorInjectErrorParams{Name: "EE_m0", IOType: "read", ErrorType: "corrupt_data"}, -22, "needs a corrupt_value")

	inject("read", "pending", 1)
	q := u.submit(e, bdev.Read, block)
	if d, _ := e.Bdevs.Lookup("EE_m0"); d.InFlight() != 1 {
		t.Error("it is not kept")
	}
	must(t, c, api.BdevErrorResumePending, api.BdevNameParams{Name: "EE_m0"})
	if <-q.Done.(ended); q.Status != bdev.StatusOK {
		t.Error(q.Status)
	}
}
