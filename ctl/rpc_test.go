package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/ctl/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with a few methods whose answers a test controls. They stand in for real ones under names of the
// catalogue, since there are no others.
type rig struct {
	*Server
	reg  *Registry
	path string
	// held is where bdev_examine waits until the test lets it go on.
	held chan struct{}
	// entered tells that a bdev_examine has begun to wait.
	entered chan string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{held: make(chan struct{}), entered: make(chan string, 1000), path: filepath.Join(t.TempDir(), "s")}
	r.reg = NewRegistry(slog.New(slog.DiscardHandler))
	r.reg.SetState(api.Runtime)
	Register(r.reg, api.BdevNullCreate, func(_ context.Context, p *api.BdevNullCreateParams) (string, error) {
		if p.Name == "taken" {
			return "", api.Errno(syscall.EEXIST, "create the device %s: there is one of that name", p.Name)
		}
		return p.Name, nil
	})
	RegisterDo(r.reg, api.BdevExamine, func(ctx context.Context, p *api.BdevNameParams) error {
		select {
		case r.entered <- p.Name:
		default: // nobody listens
		}
		select {
		case <-r.held:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	RegisterDo(r.reg, api.BdevSetOptions, func(context.Context, *api.BdevSetOptionsParams) error { return nil })
	RegisterDo(r.reg, api.NVMFSubsystemAddHost, func(context.Context, *api.NVMFAddHostParams) error { return nil })
	Register(r.reg, api.BdevGetBdevs, func(_ context.Context, p *api.BdevGetBdevsParams) ([]api.Bdev, error) {
		if p.Name == "" {
			return nil, nil
		}
		return []api.Bdev{{Name: p.Name, ProductName: strings.Repeat("é漢😀", int(p.Timeout))}}, nil
	})
	Register(r.reg, api.EngineCancel, func(context.Context, *api.EngineCancelParams) (bool, error) {
		return false, api.Reason("ErrNoSuchJob", "cancel the job: there is none")
	})
	Register(r.reg, api.EngineGetHealth, func(context.Context, *api.None) (api.EngineHealth, error) {
		return api.EngineHealth{}, errors.New("odd")
	})
	var err error
	if r.Server, err = Listen(r.path, r.reg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// peer is a client that writes bytes and reads lines.
type peer struct {
	t testing.TB
	*net.UnixConn
	lines *bufio.Reader
}

func (r *rig) dial(t testing.TB) *peer {
	t.Helper()
	sock, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sock.Close() })
	return &peer{t, sock.(*net.UnixConn), bufio.NewReader(sock)}
}

func (p *peer) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) line() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.t.Fatalf("read %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// want reads one answer and compares it. A trailing * stands for anything.
func (p *peer) want(why, want string) {
	p.t.Helper()
	got := p.line()
	if head, ok := strings.CutSuffix(want, "*"); ok && strings.HasPrefix(got, head) || got == want {
		return
	}
	p.t.Errorf("%s:\n got %s\nwant %s", why, got, want)
}

// wantEnd expects nothing more.
func (p *peer) wantEnd(why string) {
	p.t.Helper()
	if rest, err := io.ReadAll(p.lines); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("%s: got %q, %v; want the end", why, rest, err)
	}
}

const (
	createX = `{"jsonrpc":"2.0","method":"bdev_null_create","id":%s,"params":{"name":"x","num_blocks":8,"block_size":512}}`
	doneX   = `{"jsonrpc":"2.0","id":%s,"result":"x"}`
)

// TestRequests goes through the requests that a table can hold: one in, one answer out, and the connection goes on.
func TestRequests(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ name, in, want string }{
		{"plain", fmt.Sprintf(createX, "1"), fmt.Sprintf(doneX, "1")},
		{"no jsonrpc", `{"method":"bdev_null_create","id":1,"params":{"name":"x","num_blocks":8,"block_size":512}}`, fmt.Sprintf(doneX, "1")},
		{"other jsonrpc", `{"jsonrpc":"1.0","method":"bdev_get_bdevs","id":1}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,*`},
		{"id a string", fmt.Sprintf(createX, `"a\"b"`), fmt.Sprintf(doneX, `"a\"b"`)},
		{"id beyond ASCII", fmt.Sprintf(createX, `"é"`), fmt.Sprintf(doneX, `"\u00e9"`)},
		{"id no float64 holds", fmt.Sprintf(createX, `12345678901234567890.5`), fmt.Sprintf(doneX, `12345678901234567890.5`)},
		{"id of 128 bytes", fmt.Sprintf(createX, `"`+strings.Repeat("i", 128)+`"`), fmt.Sprintf(doneX, `"`+strings.Repeat("i", 128)+`"`)},
		{"id of 129 bytes", fmt.Sprintf(createX, `"`+strings.Repeat("i", 129)+`"`), `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,*`},
		{"id an object", fmt.Sprintf(createX, `{}`), `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"this is not a request: its id is an object; it has to be a string, a number or null"}}`},
		{"id true", fmt.Sprintf(createX, `true`), `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,*`},
		{"params null", `{"method":"bdev_get_bdevs","id":1,"params":null}`, `{"jsonrpc":"2.0","id":1,"result":[]}`},
		{"params none", `{"method":"bdev_get_bdevs","id":1}`, `{"jsonrpc":"2.0","id":1,"result":[]}`},
		{"params empty list", `{"method":"bdev_get_bdevs","id":1,"params":[]}`, `{"jsonrpc":"2.0","id":1,"result":[]}`},
		{"params list", `{"method":"bdev_get_bdevs","id":1,"params":["x"]}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,*`},
		{"params a number", `{"method":"bdev_get_bdevs","id":1,"params":3}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,*`},
		{"unknown parameter", `{"method":"bdev_get_bdevs","id":1,"params":{"nam":"x"}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bdev_get_bdevs: unknown parameter \"nam\"; did you mean \"name\"?"}}`},
		{"unknown parameter of a lenient method", `{"method":"nvmf_subsystem_add_host","id":1,"params":{"nqn":"n","host":"h","new":1}}`, `{"jsonrpc":"2.0","id":1,"result":true}`},
		{"missing parameter", `{"method":"bdev_null_create","id":1,"params":{"name":"x","num_blocks":8}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bdev_null_create: the parameter \"block_size\" is missing*`},
		{"no method", `{"id":7}`, `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,*`},
		{"method a number", `{"id":7,"method":7}`, `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,*`},
		{"member of no request", `{"id":7,"method":"bdev_get_bdevs","param":{}}`, `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,"message":"this is not a request: it has a member \"param\", which no request has"}}`},
		{"name twice", `{"id":7,"method":"a","method":"b"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,*`},
		{"a string", `"bdev_get_bdevs" `, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"this is not a request: it is a string, not an object"}}`},
		{"unknown method", `{"id":1,"method":"bdev_get_bdev"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"there is no method \"bdev_get_bdev\"; did you mean bdev_get_bdevs?"}}`},
		{"method of the catalogue, not of this engine", `{"id":1,"method":"nvmf_get_stats"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"this engine does not have the method nvmf_get_stats; rpc_get_methods lists those it has"}}`},
		{"wrong state", `{"id":1,"method":"bdev_set_options"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"bdev_set_options may only be called during startup*`},
		{"a device's refusal", `{"id":1,"method":"bdev_null_create","params":{"name":"taken","num_blocks":8,"block_size":512}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-17,"message":"create the device taken: there is one of that name"}}`},
		{"a reason", `{"id":1,"method":"engine_cancel","params":{"job":"j"}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"cancel the job: there is none","data":{"reason":"ErrNoSuchJob"}}}`},
		{"inside", `{"id":1,"method":"engine_health"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"odd"}}`},
		{"answer in ASCII", `{"id":1,"method":"bdev_null_create","params":{"name":"é漢😀<","num_blocks":8,"block_size":512}}`, `{"jsonrpc":"2.0","id":1,"result":"\u00e9\u6f22\ud83d\ude00<"}`},
		{"error in ASCII", `{"id":1,"method":"é"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"there is no method \"\u00e9\"; rpc_get_methods lists those there are"}}`},
		{"empty batch", `[]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"the batch is empty"}}`},
		{"batch of one", `[{"id":1,"method":"bdev_get_bdevs"}]`, `[{"jsonrpc":"2.0","id":1,"result":[]}]`},
		{"batch of nonsense", `[7]`, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,*`},
		{"batch of failing notifications", `[{"method":"x1"},{"method":"bdev_get_bdevs"}]`, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32601,*`},
		{"failing notification", `{"method":"x1"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,*`},
		{"failing with id null", `{"method":"x1","id":null}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.dial(t)
			p.write(c.in)
			p.want("answer", c.want)
			p.write(fmt.Sprintf(createX, "2"))
			p.want("the connection goes on", fmt.Sprintf(doneX, "2"))
		})
	}
}

// TestAnswersHaveEitherResultOrError: a client takes the mere name "error" for failure, and reads "result" without looking.
func TestAnswersHaveEitherResultOrError(t *testing.T) {
	p := newRig(t).dial(t)
	for _, in := range []string{`{"id":1,"method":"bdev_get_bdevs"}`, `{"id":1,"method":"nothing"}`, `{"id":1,"method":"engine_health"}`} {
		p.write(in)
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(p.line()), &members); err != nil {
			t.Fatal(err)
		}
		_, result := members["result"]
		_, failed := members["error"]
		if result == failed || len(members) != 3 {
			t.Errorf("%s is answered %v", in, members)
		}
	}
}

func TestNotificationsAreSilent(t *testing.T) {
	p := newRig(t).dial(t)
	for _, in := range []string{
		`{"method":"bdev_get_bdevs"}`, `{"method":"bdev_get_bdevs","id":null}`, `[{"method":"bdev_get_bdevs"},{"method":"bdev_get_bdevs","id":null}]`,
	} {
		p.write(in)
	}
	p.write(fmt.Sprintf(createX, "1"))
	if err := p.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.want("the request after them", fmt.Sprintf(doneX, "1"))
	p.wantEnd("after the last answer")
}

// TestFraming sends requests back to back, with white space, and in pieces.
func TestFraming(t *testing.T) {
	one := fmt.Sprintf(createX, "1")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(one), "", "  "); err != nil {
		t.Fatal(err)
	}
	p := newRig(t).dial(t)
	p.write(one + "\n" + one + one + "\r\n\t " + pretty.String())
	for range 4 {
		p.want("several at once", fmt.Sprintf(doneX, "1"))
	}
	for i := range pretty.Len() {
		p.write(pretty.String()[i : i+1])
	}
	p.want("byte by byte", fmt.Sprintf(doneX, "1"))
}

// TestParseErrorsEndTheConnection: nothing tells where the next request would begin.
func TestParseErrorsEndTheConnection(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"not JSON", `{"method" "x"}`, "the request is not JSON: invalid character"},
		{"no value", `}`, "the request is not JSON: invalid character"},
		{"not UTF-8", "{\"method\":\"\xff\"}", "the request is not JSON: line 1, column 12: a string holds the byte 0xff, which is not UTF-8. The connection ends."},
		{"too deep", strings.Repeat("[", 70) + strings.Repeat("]", 70), "the request is not JSON: line 1, column 66: values stand more than 64 deep"},
		{"too many values", "[" + strings.Repeat("1,", 8190) + "1]", "the request holds 8193 values, 8192 are allowed"},
		{"too long", `{"method":"` + strings.Repeat("x", 256<<10), "the request is longer than the 262144 bytes allowed"},
		{"white space without end", strings.Repeat(" ", 256<<10+1), "the request is longer than the 262144 bytes allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newRig(t).dial(t)
			done := make(chan struct{})
			go func() { // the server may stop reading before it has all
				defer close(done)
				_, _ = io.WriteString(p, fmt.Sprintf(createX, "1")+c.in)
			}()
			answers := []string{p.line(), p.line()} // in any order
			slices.Sort(answers)
			if answers[0] != fmt.Sprintf(doneX, "1") {
				t.Errorf("the request before is answered %s", answers[0])
			}
			if !strings.HasPrefix(answers[1], `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"`+c.want) {
				t.Errorf("got %s\nwant %s", answers[1], c.want)
			}
			p.wantEnd("after a parse error")
			<-done
		})
	}
}

func TestRequestOfTheLargestSizeIsTaken(t *testing.T) {
	p := newRig(t).dial(t)
	head, tail := `{"id":1,"method":"bdev_get_bdevs","params":{"name":"`, `"}}`
	name := strings.Repeat("n", 256<<10-len(head)-len(tail))
	go func() { _, _ = io.WriteString(p, head+name+tail) }()
	p.want("256 KiB", `{"jsonrpc":"2.0","id":1,"result":[{"name":"`+name[:10]+"*")

	values := []string{}
	for range 8192/2 - 6 {
		values = append(values, "1")
	}
	p.write(`{"id":2,"method":"bdev_get_iostat","params":{"names":[` + strings.Join(values, ",") + `]}}`)
	p.want("as many values as are allowed", `{"jsonrpc":"2.0","id":2,"error":{"code":-32601,*`)
}

func TestSlowRequestHoldsNobodyUp(t *testing.T) {
	r := newRig(t)
	p := r.dial(t)
	p.write(`{"id":1,"method":"bdev_examine","params":{"name":"a"}}` + fmt.Sprintf(createX, "2"))
	p.want("the second one first", fmt.Sprintf(doneX, "2"))
	<-r.entered
	q := r.dial(t)
	q.write(fmt.Sprintf(createX, "3"))
	q.want("another connection", fmt.Sprintf(doneX, "3"))
	close(r.held)
	p.want("the first one at last", `{"jsonrpc":"2.0","id":1,"result":true}`)
}

// TestBatchIsAnsweredInOrderOfCompletion: the first request of the batch waits until the second is done. The two may still
// overtake each other on the way back, so some tries of many have to show it.
func TestBatchIsAnsweredInOrderOfCompletion(t *testing.T) {
	r := newRig(t)
	p := r.dial(t)
	first, second := `{"jsonrpc":"2.0","id":1,"result":true}`, fmt.Sprintf(doneX, "2")
	overtaken := 0
	for range 20 {
		p.write(`[{"id":1,"method":"bdev_examine","params":{"name":"a"}},{"method":"bdev_get_bdevs"},` + fmt.Sprintf(createX, "2") + `]`)
		<-r.entered
		q := r.dial(t)
		q.write(fmt.Sprintf(createX, "3"))
		q.want("another connection meanwhile", fmt.Sprintf(doneX, "3"))
		q.Close()
		r.held <- struct{}{}
		switch got := p.line(); got {
		case "[" + second + "," + first + "]":
			overtaken++
		case "[" + first + "," + second + "]":
		default:
			t.Fatalf("got %s", got)
		}
	}
	if overtaken == 0 {
		t.Error("the answers always come in the order of the requests")
	}
}

func TestHalfClosedClientGetsItsAnswers(t *testing.T) {
	r := newRig(t)
	p := r.dial(t)
	p.write(`{"id":1,"method":"bdev_examine","params":{"name":"a"}}`)
	if err := p.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-r.entered
	close(r.held)
	p.want("after the end of its requests", `{"jsonrpc":"2.0","id":1,"result":true}`)
	p.wantEnd("after the last answer")
}

func TestClientThatEndsWithinARequestHearsOfIt(t *testing.T) {
	p := newRig(t).dial(t)
	p.write(`{"id":1,"meth`)
	if err := p.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.want("cut", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the connection ended within a request"}}`)
}

// TestGoneClientEndsItsWaits: what waits for a client that is gone does not keep its place.
func TestGoneClientEndsItsWaits(t *testing.T) {
	r := newRig(t)
	for range connMax + 1 {
		p := r.dial(t)
		p.write(`{"id":1,"method":"bdev_examine","params":{"name":"a"}}`)
		<-r.entered
		p.Close()
	}
	p := r.dial(t)
	p.write(fmt.Sprintf(createX, "1"))
	p.want("a place is free", fmt.Sprintf(doneX, "1"))
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	r := newRig(t)
	peers := make([]*peer, connMax)
	for i := range peers {
		peers[i] = r.dial(t)
		peers[i].write(fmt.Sprintf(createX, "1"))
		peers[i].want("served", fmt.Sprintf(doneX, "1"))
	}
	late := r.dial(t)
	late.write(fmt.Sprintf(createX, "1"))
	r.mu.Lock()
	served := len(r.conns)
	r.mu.Unlock()
	if served != connMax {
		t.Errorf("%d connections are served", served)
	}
	peers[0].Close()
	late.want("when another has ended", fmt.Sprintf(doneX, "1"))
}

func TestRequestsBeyondTheLimitWait(t *testing.T) {
	r := newRig(t)
	p := r.dial(t)
	for range requestMax {
		p.write(`{"id":1,"method":"bdev_examine","params":{"name":"a"}}`)
	}
	for range requestMax {
		<-r.entered
	}
	p.write(`{"id":2,"method":"bdev_examine","params":{"name":"b"}}`)
	r.held <- struct{}{}
	p.want("one is answered", `{"jsonrpc":"2.0","id":1,"result":true}`)
	if name := <-r.entered; name != "b" {
		t.Errorf("%s is begun", name)
	}
	close(r.held)
	for range requestMax {
		p.line()
	}
}

func TestAnswerThatIsTooLongIsAnError(t *testing.T) {
	p := newRig(t).dial(t)
	p.write(`{"id":1,"method":"bdev_get_bdevs","params":{"name":"x","timeout":1500000}}`)
	p.want("over 32 MiB", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the answer to bdev_get_bdevs would have*`)
	call := `{"id":1,"method":"bdev_get_bdevs","params":{"name":"x","timeout":720000}}`
	p.write(`[` + call + `,` + call + `]`)
	p.want("together over 32 MiB", `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"the answers of the batch would have*`)
	p.write(fmt.Sprintf(createX, "2"))
	p.want("the connection goes on", fmt.Sprintf(doneX, "2"))
}

func TestCloseEndsWaitsAndDeliversAnswers(t *testing.T) {
	r := newRig(t)
	p := r.dial(t)
	p.write(`{"id":1,"method":"bdev_examine","params":{"name":"a"}}`)
	<-r.entered
	idle := r.dial(t)
	idle.write(fmt.Sprintf(createX, "1"))
	idle.want("before", fmt.Sprintf(doneX, "1"))
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.Server.Close(); err != nil {
			t.Error(err)
		}
	})
	p.want("the wait ends", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"context canceled"}}`)
	p.wantEnd("the server stops")
	idle.wantEnd("the server stops")
	done.Wait()
	for _, path := range []string{r.path, r.path + ".lock"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	// For newRig's cleanup to close once more.
	again, err := Listen(r.path, r.reg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Server = again
}
