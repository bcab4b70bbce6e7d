package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// DefaultSocket is where an engine listens unless it was told otherwise.
const DefaultSocket = "/var/run/pollux.sock"

// Client speaks to one engine over one connection. Several goroutines may call at once; answers come in any order.
//
// jrpc2's client was tried first. It drops an error that answers no particular id, which is how an engine says that a
// request was too long or not JSON, and the caller then hears only that the connection ended.
type Client struct {
	path string
	conn net.Conn

	mu      sync.Mutex
	pending map[string]chan reply // by id, as written
	lastID  uint64
	err     error // why there are no more answers
	done    chan struct{}
}

// reply is an answer as it crosses the socket. Result is nil where the member is missing.
type reply struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// Dial connects to the engine whose socket is at path.
func Dial(path string) (*Client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, dialError(path, err)
	}
	return newClient(path, conn), nil
}

func newClient(path string, conn net.Conn) *Client {
	c := &Client{path: path, conn: conn, pending: map[string]chan reply{}, done: make(chan struct{})}
	go c.receive()
	return c
}

// TLSFiles are what a client shows and trusts, PEM.
type TLSFiles struct {
	Cert, Key string // the client's own
	CA        string // authorities of engines; "" are the machine's
}

// dialTimeout bounds connecting to an engine over TCP.
const dialTimeout = 10 * time.Second

// DialTLS connects to the engine that listens at a TCP address.
func DialTLS(addr string, files TLSFiles) (*Client, error) {
	fail := func(err error) (*Client, error) { return nil, fmt.Errorf("connect to the engine at %s: %w", addr, err) }
	if files.Cert == "" || files.Key == "" {
		return fail(errors.New("an engine on the network wants a certificate; give --tls-cert and --tls-key"))
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return fail(fmt.Errorf("--tls-cert %s and --tls-key %s: %w", files.Cert, files.Key, err))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	if files.CA != "" {
		text, err := os.ReadFile(files.CA)
		if err != nil {
			return fail(fmt.Errorf("--tls-ca: %w", err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return fail(fmt.Errorf("--tls-ca: %s holds no certificate in PEM", files.CA))
		}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: dialTimeout}, "tcp", addr, config)
	if err != nil {
		return fail(err)
	}
	return newClient(addr, conn), nil
}

func dialError(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("connect to the engine at %s: there is no such socket; is `pollux serve` running, with this --rpc-socket?", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connect to the engine at %s: nobody listens there; an engine was there and is gone, start it with `pollux serve`", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("connect to the engine at %s: permission denied; use the account that runs the engine, or root", path)
	}
	return fmt.Errorf("connect to the engine at %s: %w", path, err)
}

// Close ends the connection; calls under way fail.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// Call calls method and fills result, a pointer, unless it is nil. What the engine refuses comes back as an *Error. When
// ctx ends first the answer is dropped; the engine may carry out the call all the same.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	id, answer, err := c.send(method, params)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return fmt.Errorf("%s: no answer from the engine at %s: %w", method, c.path, ctx.Err())
	case r, ok := <-answer:
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("%s: no answer from the engine at %s: %w", method, c.path, c.err)
		}
		return r.into(method, result)
	}
}

func (c *Client) send(method string, params any) (id string, answer chan reply, err error) {
	request := struct {
		Version string `json:"jsonrpc"`
		Method  string `json:"method"`
		ID      uint64 `json:"id"`
		Params  any    `json:"params,omitempty"`
	}{Version: "2.0", Method: method, Params: params}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return "", nil, fmt.Errorf("%s: the connection to the engine at %s has ended: %w", method, c.path, c.err)
	}
	c.lastID++
	request.ID = c.lastID
	text, err := json.Marshal(request)
	if err != nil {
		return "", nil, fmt.Errorf("%s: the parameters cannot be written as JSON: %w", method, err)
	}
	id, answer = strconv.FormatUint(c.lastID, 10), make(chan reply, 1)
	c.pending[id] = answer
	// A failed write is heard by the receiver too, which may have an answer to this very request that says why.
	_, _ = c.conn.Write(append(text, '\n'))
	return id, answer, nil
}

// receive hands answers out until the connection ends.
func (c *Client) receive() {
	defer close(c.done)
	answers := json.NewDecoder(c.conn)
	for {
		var r reply
		if err := answers.Decode(&r); err != nil {
			c.end(err)
			return
		}
		c.mu.Lock()
		if string(r.ID) == "null" && r.Error != nil {
			// It answers a request that the engine could not read, and no one can say which.
			for id, answer := range c.pending {
				answer <- r
				delete(c.pending, id)
			}
		} else if answer, ok := c.pending[string(r.ID)]; ok {
			answer <- r
			delete(c.pending, string(r.ID))
		}
		c.mu.Unlock()
	}
}

func (c *Client) end(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = errors.New("the engine closed the connection")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for id, answer := range c.pending {
		close(answer)
		delete(c.pending, id)
	}
}

func (r *reply) into(method string, result any) error {
	if r.Error != nil {
		return parseError(r.Error.Code, r.Error.Message, r.Error.Data)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("%s: the engine's answer is not what this program expects: %w", method, err)
	}
	return nil
}
