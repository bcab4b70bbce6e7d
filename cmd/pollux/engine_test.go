package main

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	var tab table
	tab.columns("NAME", "BLOCKS", "SIZE", "CLAIMED")
	tab.row("a", 12, "1 MiB", true)
	tab.row("näme", 1234567, "", false)
	want := "NAME   BLOCKS  SIZE   CLAIMED\n" +
		"a          12  1 MiB  yes\n" +
		"näme  1234567  -      -\n"
	if got := tab.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var empty table
	empty.columns("NAME", "BLOCKS")
	if got := empty.String(); got != "NAME  BLOCKS\n" {
		t.Errorf("got %q", got)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 30: "1 GiB", 3 << 39: "1.5 TiB", 1<<64 - 1: "16 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) is %q, want %q", bytes, got, want)
		}
	}
}

func TestPrintJSONKeepsCharacters(t *testing.T) {
	var out bytes.Buffer
	if err := printJSON(&out, map[string]string{"a": "<é>"}); err != nil || out.String() != "{\n  \"a\": \"<é>\"\n}\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
