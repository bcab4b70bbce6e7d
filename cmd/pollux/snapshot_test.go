package main

import (
	"encoding/json"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

func TestSnapshotCommands(t *testing.T) {
	sh := newShell(t)
	const id = `[0-9a-f-]{36}`
	sh.must("bdev create file disk " + diskFile(t, 512<<20))
	sh.must("pool create p disk")
	sh.must("volume create p v 64M --cache volatile")
	sh.looks("snapshot list", `SNAPSHOT +NUMBER +SIZE +ALLOCATED +CREATED +CLONES +STATE +UUID\n`)
	sh.looks("snapshot create p/v s0", id+`\n`)
	sh.fails("snapshot create p/v s0", "a snapshot of the volume has it")
	sh.fails("snapshot create p/none s0", "no volume")
	sh.looks("snapshot list p/v", `SNAPSHOT .*\np/v@s0 +1 +64 MiB +0 B +20\d\d-\S+ +- +ok +`+id+`\n`)
	sh.looks("snapshot clone p/v@s0 c --cache none --verify", id+`\n`)
	sh.looks("snapshot list p", `SNAPSHOT .*\np/v@s0 +1 +64 MiB +0 B +20\d\d-\S+ +c +ok +`+id+`\n`)
	sh.looks("volume list p", `POOL .* v +64 MiB +0 B +0 B +volatile +- +1 +- .*\n.* c +64 MiB +0 B +0 B +none +- +0 +p/v@s0 .*`)
	sh.fails("snapshot delete p/v@s0", "flatten or delete")
	sh.fails("snapshot list p/none", "no volume")
	var list []api.Snapshot
	if err := json.Unmarshal([]byte(sh.must("snapshot list -o json")), &list); err != nil || len(list) != 1 || list[0].Name != "s0" || list[0].Clones[0] != "c" {
		t.Errorf("%+v, %v", list, err)
	}
	sh.looks("snapshot diff p/v --since s0", `OFFSET +BYTES\n`)
	sh.fails("snapshot diff p/v --since none", "no such snapshot")
	sh.must("snapshot create p/v s1")
	sh.fails("snapshot restore p/v@s0", "newer snapshots")
	sh.looks("snapshot restore p/v@s0 --drop-newer", `job \d+: done\n`)
	sh.looks("volume flatten p/c", `job \d+: done\n`)
	sh.fails("volume flatten p/c", "no clone")
	sh.must("volume delete p/c")
	sh.must("snapshot delete p/v@s0")
	sh.looks("snapshot list --output json", `\[\]\n`)
}
