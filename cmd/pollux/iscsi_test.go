package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestISCSICommands(t *testing.T) {
	sh := newShell(t)
	const name, host = "iqn.2026-01.io.pollux:m0", "iqn.1992-01.com.example:host"
	sh.must("bdev create mem m0 8M")
	sh.must("bdev create mem m1 8M")
	sh.looks("iscsi list", "TARGET  LUNS  ADDRESSES  INITIATORS  CHAP\n")
	sh.looks("iscsi export m0 --port 0", `m0 is target `+name+`\. Log in .*
  iscsiadm -m discovery -t sendtargets -p 127\.0\.0\.1:[0-9]+
  iscsiadm -m node -T `+name+` -p 127\.0\.0\.1:[0-9]+ --login
.*  iscsi-ls -s iscsi://127\.0\.0\.1:[0-9]+
.*  pollux iscsi allow `+name+` INITIATOR
`)
	sh.looks("iscsi list", `TARGET .*\n`+name+` +0=m0 +127\.0\.0\.1:[0-9]+ +0 allowed +none\n`)
	sh.must("iscsi allow m0 " + host)
	sh.fails("iscsi allow m0 "+host, "it is allowed already")
	sh.fails("iscsi allow m0 host", "no type")
	sh.fails("iscsi allow m9 "+host, "there is no target")
	sh.looks("iscsi list", `.* 1 allowed .*`)
	sh.looks("iscsi show "+name, `.*target +m0 +`+name+`\n.*lun +0 +m0\nportal +group 1 +127.*initiators +group 1 +`+host+`\nnetmasks +group 1 +ANY\n`)
	sh.looks("iscsi show m0 -o json", `{.*"name": "`+name+`".*"portal_groups": \[.*"connections": \[\]\n}\n`)
	sh.must("iscsi deny m0 " + host)
	sh.fails("iscsi deny m0 "+host, "it is not allowed")
	sh.looks("iscsi connections", "TARGET  INITIATOR .*\n")
	sh.looks("iscsi failures", "INITIATOR  FROM .* WHY\n")

	out := sh.must("iscsi export m1 --name iqn.1992-01.com.example:m1 --port 0 --any-initiator --netmask 127.0.0.0/8")
	if strings.Contains(out, "pollux iscsi allow") {
		t.Errorf("printed %s", out)
	}
	sh.looks("iscsi list", `.*example:m1 +0=m1 +127\.0\.0\.1:[0-9]+ +any +none\n`)
	sh.fails("iscsi deny iqn.1992-01.com.example:m1 "+host, "which lets ANY in")
	sh.must(`rpc iscsi_initiator_group_add_initiators {"tag":2,"initiators":["!iqn.1992-01.com.example:eve"]}`)
	sh.must("iscsi deny m1 ANY")
	sh.looks("iscsi list", `.*example:m1 .* 0 allowed +none\n`)
	sh.must("iscsi allow m1 ANY")
	sh.fails("iscsi export m1 --name iqn.1992-01.com.example:m1 --port 0", "exists already")
	sh.fails("iscsi export none --port 0", "none")
	sh.fails("iscsi export m1 --port 0 --initiator host", "no type")
	if groups := sh.must("rpc iscsi_get_initiator_groups") + sh.must("rpc iscsi_get_portal_groups"); strings.Count(groups, `"tag"`) != 4 {
		t.Errorf("a failed export left something:\n%s", groups)
	}
	if out := sh.must("iscsi export m0 --name wild --address 0.0.0.0 --port 0 --any-initiator"); strings.Contains(out, "0.0.0.0") || !strings.Contains(out, "iscsiadm -m node -T iqn.2026-01.io.pollux:wild -p ") {
		t.Errorf("it prints an address at which nobody can log in:\n%s", out)
	}
	sh.must("iscsi unexport wild")
	sh.must("iscsi export m1 --name tagged --port 0 --portal-group 101")
	sh.looks("iscsi show tagged", `.*\nportal +group 101 +127.*`)
	sh.fails("iscsi export m1 --name other --port 0 --portal-group 101", "exists already")
	sh.must("iscsi unexport tagged")
	sh.must("iscsi unexport m0")
	sh.must("iscsi unexport m1")
	if groups := sh.must("rpc iscsi_get_initiator_groups") + sh.must("rpc iscsi_get_portal_groups"); groups != "[]\n[]\n" {
		t.Errorf("unexport left something:\n%s", groups)
	}
}

func TestISCSISecrets(t *testing.T) {
	sh := newShell(t)
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := file("one", "secret-of-host-1\n"), file("two", "secret-of-disk-1\n")
	sh.must("bdev create mem m0 8M")
	sh.must("iscsi export m0 --port 0 --any-initiator")
	sh.fails("iscsi chap set m0 host1 --secret-file /none", "no such file")
	sh.fails("iscsi chap set m0 host1 --secret-file "+file("empty", "\n"), "it has 0 bytes")
	sh.fails("iscsi chap set m0 host1 --secret-file "+one+" --target-user disk", "go together")
	sh.must("iscsi chap set m0 host1 --secret-file " + one)
	sh.looks("iscsi list", `.* required\n`)
	sh.must("iscsi chap set m0 host2 --secret-file " + one + " --target-user disk --target-secret-file " + two)
	sh.looks("iscsi list", `.* mutual\n`)
	sh.must("iscsi chap set m0 host1 --secret-file " + two) // another one
	sh.fails("iscsi chap set m0 host1 --secret-file "+file("long", strings.Repeat("s", 256)), "it has 256 bytes")
	sh.fails("iscsi chap set m0 host1 --secret-file "+file("nul", "secret\x00of-host1"), "without a NUL")
	sh.fails("iscsi chap set m0 host1 --secret-file "+one+" --target-user "+strings.Repeat("d", 256)+" --target-secret-file "+two, "at most 255")
	sh.looks("iscsi chap list", `GROUP  USER   TARGET USER  TARGETS\n +1  host2  disk         iqn.2026-01.io.pollux:m0\n +1  host1  -            iqn.2026-01.io.pollux:m0\n`)
	if out := sh.must("iscsi chap list -o json"); strings.Contains(out, "secret-of") {
		t.Errorf("a secret is shown:\n%s", out)
	}
	if out := sh.must("rpc iscsi_get_auth_groups"); strings.Count(out, "secret-of-disk-1") != 2 {
		t.Errorf("printed %s", out)
	}
	sh.must("iscsi chap remove m0 host2")
	sh.fails("iscsi chap remove m0 host2", "not found")
	sh.looks("iscsi list", `.* mutual\n`)
}
