package iscsi

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// TestLoginOfRealInitiators goes through logins as real initiators make them, and compares our answers with those that were recorded.
//
// A file has comments, the rule of authentication, and requests: a line ">" with T and the stages, then keys. $PROOF stands for the response to
// the challenge that was given. Behind each request stands the answer: a line "<", then keys.
func TestLoginOfRealInitiators(t *testing.T) {
	files, err := filepath.Glob("testdata/login/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replayLogin(t, string(b))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(b) {
				t.Errorf("the answers are others now:\n%s", got)
			}
		})
	}
}

// replayLogin plays a file and gives it with the answers as they are now.
func replayLogin(t *testing.T, script string) string {
	t.Helper()
	v := testView()
	x := newLoginHost(v, 1)
	x.h.ITT, x.h.CID = 0, 0
	var out strings.Builder
	var keys []string
	asking := false
	var i, c, algorithm string
	flush := func() {
		if !asking {
			return
		}
		asking = false
		for at, k := range keys {
			if k == "CHAP_R=$PROOF" {
				keys[at] = "CHAP_R=0x" + hex.EncodeToString(proofOf(algorithm, i, testSecret.Secret, c))
			}
		}
		x.request(textOf(keys...))
		fmt.Fprintf(&out, "\n< %s %04X", x.state, uint16(x.resp.Status))
		if x.resp.Transit {
			fmt.Fprint(&out, " T")
		}
		fmt.Fprintf(&out, " CSG %d NSG %d TSIH %d\n", x.resp.CSG, x.resp.NSG, x.resp.TSIH)
		if x.text != "" {
			// A value may have a space in it: the pairs are counted by their NULs.
			for _, p := range strings.Split(strings.TrimSuffix(x.raw, "\x00"), "\x00") {
				fmt.Fprintln(&out, p)
				key, value, _ := strings.Cut(p, "=")
				switch key {
				case "CHAP_A":
					algorithm = value
				case "CHAP_I":
					i = value
				case "CHAP_C":
					c = value
				}
			}
		}
	}
	answer := false
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case word == "#":
			fmt.Fprintln(&out, line)
		case word == "auth":
			v.nodes[0].auth = map[string]Auth{"none": {}, "required": {Require: true, Group: 1}, "mutual": {Require: true, Mutual: true, Group: 1}}[rest]
			v.discovery = v.nodes[0].auth
			fmt.Fprintln(&out, line)
		case word == ">":
			flush()
			asking, answer, keys = true, false, nil
			transit, stages := strings.CutPrefix(rest, "T ")
			if _, err := fmt.Sscanf(transit, "CSG %d NSG %d", &x.h.CSG, &x.h.NSG); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			x.h.Transit = stages
			fmt.Fprintf(&out, "\n%s\n", line)
		case word == "<":
			answer = true
		case line == "" || answer:
		case asking:
			keys = append(keys, line)
			fmt.Fprintln(&out, line)
		default:
			t.Fatalf("%q belongs to nothing", line)
		}
	}
	flush()
	return out.String()
}
