package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is control traffic, as an engine has it that is looked after: once in a while a scrape as Prometheus makes it, a look as
// pollux top takes it, and one as pollux iostat does. It comes from a process of its own.

// ControlTask lets a process look at an engine until it is told to end.
type ControlTask struct {
	Socket  string // for RPC
	Metrics string // HOST:PORT
	EveryMS int    // between two rounds of looks
}

// ControlDone is what it did.
type ControlDone struct {
	Rounds      int     `json:"rounds"`
	ScrapeBytes int     `json:"scrape_bytes"`      // of the last one
	Micros      float64 `json:"micros_of_a_round"` // the mean
}

// Looker looks at an engine once, as pollux top does.
type Looker func(ctx context.Context, engine api.Caller) error

// scrapeAccept is what Prometheus asks for where native histograms are on.
const scrapeAccept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.3"

// run looks around again and again. The first line that it writes says that it has begun, the second, at the end, what it did.
func (t *ControlTask) run(ctx context.Context, look Looker, out io.Writer) error {
	engine, err := api.Dial(t.Socket)
	if err != nil {
		return err
	}
	defer engine.Close()
	done := ControlDone{}
	var spent reactor.Ticks
	tick := time.NewTicker(time.Duration(t.EveryMS) * time.Millisecond)
	defer tick.Stop()
	for {
		began := reactor.Clock()
		var scraped int
		if scraped, err = t.scrape(ctx); err == nil {
			err = look(ctx, engine)
		}
		if err == nil {
			_, err = api.BdevGetIostat.Call(ctx, engine, api.BdevGetIostatParams{})
		}
		if err == nil {
			_, err = api.VolumeList.Call(ctx, engine, api.VolumeListParams{})
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("looking at the engine: %w", err)
		}
		if err == nil {
			done.Rounds++
			done.ScrapeBytes = scraped
			spent += reactor.Clock() - began
			done.Micros = float64(spent/reactor.Microsecond) / float64(done.Rounds)
			if done.Rounds == 1 {
				_ = json.NewEncoder(out).Encode(&done)
			}
		}
		select {
		case <-ctx.Done():
			return json.NewEncoder(out).Encode(&done)
		case <-tick.C:
		}
	}
}

func (t *ControlTask) scrape(ctx context.Context) (bytes int, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	q.Header.Set("Accept", scrapeAccept)
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("scraping %s: %s", t.Metrics, answer.Status)
	}
	return int(n), err
}

// control is such a process, as its parent sees it.
type control struct {
	cmd   *exec.Cmd
	lines *json.Decoder
}

// startControl starts one, and returns when it has taken its first look.
func (s *suite) startControl(ctx context.Context, t *ControlTask) (*control, error) {
	cmd, lines, err := s.child(ctx, &ChildTask{Control: t})
	if err != nil {
		return nil, err
	}
	c := &control{cmd, lines}
	var first ControlDone
	if err := lines.Decode(&first); err != nil {
		return nil, errors.Join(fmt.Errorf("control traffic did not begin: %w", err), cmd.Wait())
	}
	return c, nil
}

// stop ends it, and gives what it did.
func (c *control) stop() (done ControlDone, err error) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	err = c.lines.Decode(&done)
	if e := c.cmd.Wait(); e != nil || err != nil {
		return done, fmt.Errorf("control traffic did not end well: %w", errors.Join(e, err))
	}
	return done, nil
}
