package ctl

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"testing"
	"unicode/utf8"
)

// FuzzStream sends any bytes, cut anywhere, and holds the server to what every client relies on: answers are lines of JSON in
// ASCII, each with either a result or an error; the connection ends when the client has ended; and nobody else notices.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"method":"rpc_get_methods"}{"id":2,"method":"spdk_get_version"}`,
		`[{"id":1,"method":"bdev_get_bdevs"},{"method":"x"},7]`,
		`{"jsonrpc":"2.0","method":"bdev_null_create","id":"é","params":{"name":"x","num_blocks":8,"block_size":512}}`,
		`{"id":1,"method":"bdev_get_bdevs"}}`,
		`{"id":1,"id":2}`,
		"\"\xff\" 12 null true",
		`[]{}`,
		`{"id":1,"method":"engine_get_schema","params":{"method":"nvmf_create_transport"}}`,
	} {
		f.Add([]byte(seed), uint16(7))
	}
	r := newRig(f)
	close(r.held) // nothing waits
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		sock, err := net.Dial("unix", r.path)
		if err != nil {
			t.Fatal(err)
		}
		defer sock.Close()
		go func() {
			at := int(cut) % (len(stream) + 1)
			_, _ = sock.Write(stream[:at])
			_, _ = sock.Write(stream[at:])
			_ = sock.(*net.UnixConn).CloseWrite()
		}()
		lines := bufio.NewReader(sock)
		for {
			line, err := lines.ReadBytes('\n')
			if len(line) == 0 && err != nil {
				break // the end, or the reset of a connection that was closed with unread bytes
			}
			if err == io.EOF {
				t.Fatalf("an answer without a newline: %q", line)
			}
			checkAnswer(t, line)
		}
	})
}

func checkAnswer(t *testing.T, line []byte) {
	t.Helper()
	if i := bytes.IndexFunc(line, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
		t.Fatalf("not ASCII: %q", line)
	}
	answers := []map[string]json.RawMessage{nil}
	var err error
	if line[0] == '[' {
		err = json.Unmarshal(line, &answers)
	} else {
		err = json.Unmarshal(line, &answers[0])
	}
	if err != nil || len(answers) == 0 {
		t.Fatalf("%v: %q", err, line)
	}
	for _, answer := range answers {
		_, result := answer["result"]
		_, failed := answer["error"]
		if result == failed || string(answer["jsonrpc"]) != `"2.0"` || answer["id"] == nil || len(answer) != 3 {
			t.Fatalf("neither a result nor an error, or both: %q", line)
		}
	}
}
