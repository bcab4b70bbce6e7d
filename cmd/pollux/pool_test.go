package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

func TestPoolAndVolumeCommands(t *testing.T) {
	sh := newShell(t)
	file := diskFile(t, 256<<20)
	sh.must("bdev create file disk " + file)
	if out := sh.must("pool create p disk"); out != "p\n" {
		t.Errorf("pool create printed %q", out)
	}
	const id = `[0-9a-f-]{36}`
	sh.looks("pool list", `NAME  DEVICE  SIZE +FREE +RESERVED +FILL +STATE +CLUSTER +LOG +VOLUMES  UUID\np +disk +256 MiB +2\d\d\.?\d? MiB +0 B +normal +healthy +64 KiB +- +0 +`+id+`\n`)
	sh.looks("volume create p v 64M --log 32M", id+`\n`)
	sh.fails("volume create p v 32M", "the name is taken")
	sh.looks("volume list p", `POOL +NAME +SIZE +ALLOCATED +RESERVED +CACHE +READ ONLY +SNAPSHOTS +PARENT +STATE +UUID\np +v +64 MiB +0 B +0 B +none +- +0 +- +healthy +`+id+`\n`)
	sh.looks("volume create p thick 16M --log 32M --thick", id+`\n`)
	sh.looks("volume list p", `.*\n.*\np +thick +16 MiB +0 B +16 MiB +none .*`)
	sh.fails("volume create p large 1G --log 32M --thick", "free clusters")
	sh.must("volume delete p/thick")
	sh.fails("volume set p/v", "nothing is to be changed")
	sh.must("volume set p/v --cache volatile --read-only")
	sh.looks("volume list", `.* volatile +yes +0 +- +healthy .*`)
	sh.must("volume set p/v --no-read-only")
	sh.must("volume resize p/v 3G")
	sh.fails("volume promote p/v", "no such change of role")
	sh.must("volume set p/v --on-cache-loss fence")
	sh.must("volume release p/v")
	sh.must("volume rename p/v w")
	sh.must("pool rename p q")
	sh.looks("volume status q/w", `NAME  STATE +SCORE +REASON\nw +healthy +1.0 +-\n`)
	sh.looks("volume scrub q/w", `NAME  SCRUB  DONE % +ERRORS  LAST  LAST ERRORS  FIRST BAD BLOCK\nw +idle +0.0 +0 +- +0 +-\n`)
	sh.looks("pool scrub q --limit 1G", `job \d+: done\n`)
	sh.looks("volume scrub q/w", `.* idle +0.0 +0 +20\S+Z +0 +-\n`)
	sh.must("volume scrub start q/w --limit 1M")
	sh.must("volume scrub pause q/w")
	sh.must("volume scrub stop q/w")
	sh.fails("volume scrub start q/none", "no volume")
	sh.looks("volume stats q/w", `STAGE +CHANGES +MEAN +MEDIAN +p99\nadmit +0 +0s +0s +0s\n.*total .*`)
	var volumes []api.Volume
	if err := json.Unmarshal([]byte(sh.must("volume list -o json")), &volumes); err != nil || len(volumes) != 1 || volumes[0].Name != "w" || volumes[0].ReadOnly {
		t.Errorf("%+v, %v", volumes, err)
	}
	sh.fails("bdev delete q/w", "pollux volume delete")
	if err := os.Truncate(file, 512<<20); err != nil {
		t.Fatal(err)
	}
	sh.must("bdev rescan disk")
	sh.looks("pool grow q", "512 MiB\n")
	sh.looks("pool export q", `job \d+: done\n`)
	sh.fails("volume delete q/w", "no volume")
	sh.looks("pool import disk", `job \d+: done\n`)
	sh.looks("volume delete q/w", `job \d+: done\n`)
	sh.looks("pool delete q --no-wait", `\d+\n`)
}
