package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file holds the socket to three clients: the behaviour of SPDK's Python client, the client of jrpc2, and our own.

// pythonClient does what SPDK's rpc.py does (python/spdk/rpc/client.py): it numbers requests from 1, leaves empty parameters
// out, indents, joins several requests with newlines, reads pieces of 4096 bytes, decodes each piece as UTF-8 by itself,
// takes the first answer that is complete and not empty, and believes in the mere name "error".
type pythonClient struct {
	sock net.Conn
	id   int
	buf  string
	reqs []string
}

func (c *pythonClient) add(method string, params map[string]any) {
	c.id++
	request := map[string]any{"jsonrpc": "2.0", "method": method, "id": c.id}
	if len(params) > 0 {
		request["params"] = params
	}
	text, err := json.MarshalIndent(request, "", "  ")
	if err != nil {
		panic(err)
	}
	c.reqs = append(c.reqs, string(text))
}

func (c *pythonClient) flush() error {
	_, err := c.sock.Write([]byte(strings.Join(c.reqs, "\n")))
	c.reqs = nil
	return err
}

func (c *pythonClient) recv() (map[string]any, error) {
	for {
		text := strings.TrimLeftFunc(c.buf, unicode.IsSpace)
		decoder := json.NewDecoder(strings.NewReader(text))
		var answer map[string]any
		if decoder.Decode(&answer) == nil {
			c.buf = text[decoder.InputOffset():]
			if len(answer) > 0 {
				return answer, nil
			}
		}
		piece := make([]byte, 4096)
		n, err := c.sock.Read(piece)
		if err != nil {
			return nil, fmt.Errorf("connection closed with partial response: %w", err)
		}
		if !utf8.Valid(piece[:n]) {
			return nil, errors.New("'utf-8' codec can't decode")
		}
		c.buf += string(piece[:n])
	}
}

func (c *pythonClient) call(method string, params map[string]any) (any, error) {
	c.add(method, params)
	if err := c.flush(); err != nil {
		return nil, err
	}
	answer, err := c.recv()
	if err != nil {
		return nil, err
	}
	if e, ok := answer["error"]; ok {
		return nil, fmt.Errorf("got JSON-RPC error response: %v", e)
	}
	result, ok := answer["result"]
	if !ok {
		return nil, errors.New("KeyError: 'result'")
	}
	return result, nil
}

func TestPythonClient(t *testing.T) {
	r := newRig(t)
	c := &pythonClient{sock: r.dial(t)}
	if result, err := c.call("bdev_get_bdevs", nil); err != nil || fmt.Sprint(result) != "[]" {
		t.Fatal(result, err)
	}
	// An answer of many pieces, full of characters that the edge of a piece would cut.
	result, err := c.call("bdev_get_bdevs", map[string]any{"name": "漢字😀", "timeout": 5000})
	if err != nil {
		t.Fatal(err)
	}
	bdev := result.([]any)[0].(map[string]any)
	if bdev["name"] != "漢字😀" || bdev["product_name"] != strings.Repeat("é漢😀", 5000) {
		t.Errorf("got %.100v", bdev)
	}
	if _, ok := bdev["aliases"].([]any); !ok {
		t.Errorf("a script cannot iterate over aliases %v", bdev["aliases"])
	}
	if _, err := c.call("bdev_null_create", map[string]any{"name": "taken", "num_blocks": 1, "block_size": 512}); err == nil || !strings.Contains(err.Error(), "code:-17") {
		t.Errorf("got %v", err)
	}
	// Several requests in one flush; the answers may come in any order.
	for i := range 5 {
		c.add("bdev_null_create", map[string]any{"name": fmt.Sprint("n", i), "num_blocks": 1, "block_size": 512})
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	seen := map[any]any{}
	for range 5 {
		answer, err := c.recv()
		if err != nil {
			t.Fatal(err)
		}
		seen[answer["id"]] = answer["result"]
	}
	for i := range 5 {
		if seen[float64(c.id-4+i)] != fmt.Sprint("n", i) {
			t.Errorf("got %v", seen)
		}
	}
}

// TestJRPC2Client lets a client that we did not write call, notify and batch.
func TestJRPC2Client(t *testing.T) {
	r := newRig(t)
	sock := r.dial(t)
	c := jrpc2.NewClient(channel.RawJSON(sock, sock), nil)
	defer c.Close()
	ctx := t.Context()
	var name string
	params := map[string]any{"name": "x", "num_blocks": 8, "block_size": 512}
	if err := c.CallResult(ctx, "bdev_null_create", params, &name); err != nil || name != "x" {
		t.Fatal(name, err)
	}
	if err := c.Notify(ctx, "bdev_null_create", params); err != nil {
		t.Fatal(err)
	}
	answers, err := c.Batch(ctx, []jrpc2.Spec{
		{Method: "bdev_null_create", Params: params},
		{Method: "bdev_null_create", Params: params, Notify: true},
		{Method: "bdev_nul_create", Params: params},
		{Method: "rpc_get_methods"},
	})
	if err != nil || len(answers) != 3 {
		t.Fatal(answers, err)
	}
	if err := answers[0].UnmarshalResult(&name); err != nil || name != "x" {
		t.Error(name, err)
	}
	if e := answers[1].Error(); e == nil || e.Code != -32601 {
		t.Error(e)
	}
	var methods []string
	if err := answers[2].UnmarshalResult(&methods); err != nil || len(methods) == 0 {
		t.Error(methods, err)
	}
	_, err = c.Call(ctx, "engine_cancel", map[string]any{"job": "j"})
	var e *jrpc2.Error
	if !errors.As(err, &e) || e.Code != -32000 || string(e.Data) != `{"reason":"ErrNoSuchJob"}` {
		t.Error(err)
	}
}

func dialAPI(t *testing.T, r *rig) *api.Client {
	t.Helper()
	c, err := api.Dial(r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOwnClient(t *testing.T) {
	r := newRig(t)
	c := dialAPI(t, r)
	ctx := t.Context()
	create := api.BdevNullCreateParams{Name: "x", NumBlocks: 8, BlockSize: 512}
	if name, err := api.BdevNullCreate.Call(ctx, c, create); err != nil || name != "x" {
		t.Fatal(name, err)
	}
	create.Name = "taken"
	_, err := api.BdevNullCreate.Call(ctx, c, create)
	if !errors.Is(err, syscall.EEXIST) || err.Error() != "create the device taken: there is one of that name" {
		t.Error(err)
	}
	var e *api.Error
	if _, err = api.EngineCancel.Call(ctx, c, api.EngineCancelParams{Job: "j"}); !errors.As(err, &e) || e.Code != api.CodeReason || e.Data.Reason != "ErrNoSuchJob" {
		t.Error(err)
	}
	if err := c.Call(ctx, "bdev_null_create", create, new(int)); err == nil {
		t.Error("an unfit result is taken")
	}
	bdevs, err := api.BdevGetBdevs.Call(ctx, c, api.BdevGetBdevsParams{Name: "é", Timeout: 2})
	if err != nil || bdevs[0].Name != "é" || bdevs[0].ProductName != "é漢😀é漢😀" {
		t.Error(bdevs, err)
	}
}

func TestOwnClientCallsFromManyGoroutines(t *testing.T) {
	r := newRig(t)
	c := dialAPI(t, r)
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			want := fmt.Sprint("n", i)
			name, err := api.BdevNullCreate.Call(t.Context(), c, api.BdevNullCreateParams{Name: want, NumBlocks: 8, BlockSize: 512})
			if err != nil || name != want {
				t.Error(name, err)
			}
		})
	}
	calls.Wait()
}

// TestOwnClientHearsWhatAnswersNoRequest: the engine cannot name the request it could not read.
func TestOwnClientHearsWhatAnswersNoRequest(t *testing.T) {
	c := dialAPI(t, newRig(t))
	_, err := api.BdevGetBdevs.Call(t.Context(), c, api.BdevGetBdevsParams{Name: strings.Repeat("x", requestBytesMax)})
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeParse || !strings.Contains(e.Message, "longer than the 262144 bytes allowed") {
		t.Error(err)
	}
	if _, err := api.RPCGetMethods.Call(t.Context(), c, api.RPCGetMethodsParams{}); err == nil || !strings.Contains(err.Error(), "the engine closed the connection") {
		t.Error(err)
	}
}

func TestOwnClientStopsWaiting(t *testing.T) {
	r := newRig(t)
	c := dialAPI(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-r.entered; cancel() }()
	if _, err := api.BdevExamine.Call(ctx, c, api.BdevNameParams{Name: "a"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(r.held)
	if _, err := api.RPCGetMethods.Call(t.Context(), c, api.RPCGetMethodsParams{}); err != nil {
		t.Error("the connection is of no use any more:", err)
	}
}

func TestOwnClientSaysWhyThereIsNoEngine(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	defer os.Remove(stale)
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no such socket; is `pollux serve` running, with this --rpc-socket?",
		stale:                      "nobody listens there; an engine was there and is gone",
	} {
		if _, err := api.Dial(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
