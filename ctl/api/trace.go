package api

// This file holds the methods about traces: where the time of hosts' commands goes, stage by stage. docs/trace.md says what each stage is.

// TraceSchema and TraceVersion name the form of a Trace, and of what `pollux trace -o json` prints around it.
const (
	TraceSchema  = "pollux.trace"
	TraceVersion = 1
)

// TraceStartParams say how closely to look, and for how long.
type TraceStartParams struct {
	Sample  uint32 `json:"sample,omitempty" default:"64" min:"1" max:"16777216" doc:"one of so many commands is looked at; which ones is left to chance"`
	Seconds uint32 `json:"seconds,omitempty" default:"10" min:"1" max:"3600" doc:"until the trace ends by itself"`
	Slowest uint32 `json:"slowest,omitempty" default:"10" min:"1" max:"64" doc:"commands to keep whole, of each kind, device and queue"`
}

// TraceStarted names a trace.
type TraceStarted struct {
	Trace string `json:"trace"`
	Ends  string `json:"ends" doc:"RFC 3339; then it ends by itself"`
}

// TraceParams name a trace.
type TraceParams struct {
	Trace string `json:"trace,omitempty" doc:"the present one without it"`
}

// TraceReadParams select what is told of a trace.
type TraceReadParams struct {
	Trace     string   `json:"trace,omitempty" doc:"the present one without it"`
	By        []string `json:"by,omitempty" enum:"kind,device,queue" doc:"what each group has in common; all commands are one group without it"`
	Kind      string   `json:"kind,omitempty" doc:"only these commands, such as read"`
	Device    string   `json:"device,omitempty" doc:"only those of the device with this name or alias"`
	Host      string   `json:"host,omitempty" doc:"only those of the host with this NQN"`
	Slowest   *uint32  `json:"slowest,omitempty" default:"10" max:"64" doc:"commands to tell of whole"`
	Histogram bool     `json:"histogram,omitempty" default:"false" doc:"with the counts of each stage's buckets"`
}

// Trace is what a trace has found up to now.
type Trace struct {
	Schema     string         `json:"schema"`
	Version    int            `json:"version"`
	Trace      string         `json:"trace"`
	State      string         `json:"state" doc:"running or ended"`
	Started    string         `json:"started" doc:"RFC 3339"`
	Seconds    float64        `json:"seconds" doc:"that it ran"`
	Sample     uint32         `json:"sample" doc:"one of so many commands was looked at"`
	Seen       uint64         `json:"seen" doc:"commands that came while it ran, looked at or not"`
	Finished   uint64         `json:"finished" doc:"that were looked at and answered"`
	Lost       uint64         `json:"lost" doc:"that were to be looked at, and could not, since too many were; with a larger sample none are"`
	Unfinished uint64         `json:"unfinished" doc:"that were looked at, and whose queue was closed before they were answered"`
	Groups     []TraceGroup   `json:"groups"`
	Slowest    []TraceCommand `json:"slowest" doc:"of the commands that were looked at, the slowest first"`
}

// TraceGroup is commands that have something in common. What they were not grouped by is left out.
type TraceGroup struct {
	Kind   string       `json:"kind,omitempty" doc:"such as read"`
	Device string       `json:"device,omitempty"`
	Alias  string       `json:"alias,omitempty" doc:"of the device: POOL/VOLUME"`
	Host   string       `json:"host,omitempty" doc:"NQN"`
	CNTLID *uint16      `json:"cntlid,omitempty"`
	QID    *uint16      `json:"qid,omitempty"`
	Count  uint64       `json:"count" doc:"commands that were looked at"`
	Errors uint64       `json:"errors" doc:"of them that did not succeed"`
	Bytes  uint64       `json:"bytes" doc:"of data, of them all"`
	Total  TraceTimes   `json:"total" doc:"from their first byte to the last of their answer"`
	Stages []TraceStage `json:"stages" doc:"in order; their sums are that of total"`
}

// TraceStage is the times of one stage. The device's is divided again: the sums of its layers are its own.
type TraceStage struct {
	Stage string `json:"stage"`
	TraceTimes
	Share  float64      `json:"share" doc:"of the sum of total, from 0 to 1"`
	Layers []TraceLayer `json:"layers,omitempty" doc:"devices that stand on each other, the uppermost first; each without those below"`
}

// TraceLayer is the times of one device of a stack. That of a volume is divided again, and the sums of its stages are its own.
type TraceLayer struct {
	Device string `json:"device"`
	Alias  string `json:"alias,omitempty" doc:"POOL/VOLUME"`
	TraceTimes
	Share  float64       `json:"share" doc:"of the sum of total, from 0 to 1"`
	Stages []TraceInside `json:"stages,omitempty" doc:"in order"`
}

// TraceInside is the times of one stage inside of a device.
type TraceInside struct {
	Stage string `json:"stage"`
	TraceTimes
	Share float64 `json:"share" doc:"of the sum of total, from 0 to 1"`
}

// TraceTimes are a distribution, exact but for the quantiles, which are within 5 %.
type TraceTimes struct {
	Count   uint64        `json:"count" doc:"commands that passed it"`
	SumNS   uint64        `json:"sum_ns"`
	MeanNS  uint64        `json:"mean_ns"`
	P50NS   uint64        `json:"p50_ns"`
	P99NS   uint64        `json:"p99_ns"`
	MaxNS   uint64        `json:"max_ns"`
	Buckets []TraceBucket `json:"buckets,omitempty" doc:"those that are not empty, in order"`
}

// TraceBucket counts times up to a border, and above that of the bucket before it, whether that is empty or not.
type TraceBucket struct {
	UpToNS float64 `json:"up_to_ns" doc:"a power of 2 to the 1/8"`
	Count  uint64  `json:"count"`
}

// TraceCommand is one command, whole.
type TraceCommand struct {
	Kind    string      `json:"kind"`
	Device  string      `json:"device,omitempty"`
	Alias   string      `json:"alias,omitempty" doc:"of the device: POOL/VOLUME"`
	LBA     *uint64     `json:"lba,omitempty"`
	Blocks  uint64      `json:"blocks,omitempty"`
	Bytes   uint32      `json:"bytes" doc:"of data"`
	Status  string      `json:"status"`
	Host    string      `json:"host" doc:"NQN"`
	CNTLID  uint16      `json:"cntlid"`
	QID     uint16      `json:"qid"`
	Reactor string      `json:"reactor"`
	Began   string      `json:"began" doc:"RFC 3339"`
	TotalNS uint64      `json:"total_ns"`
	Stages  []TraceSpan `json:"stages" doc:"in order; they add up to the total"`
}

// TraceSpan is one stage of one command, divided as a TraceStage is.
type TraceSpan struct {
	Stage  string           `json:"stage"`
	NS     uint64           `json:"ns"`
	Layers []TraceLayerSpan `json:"layers,omitempty"`
}

// TraceLayerSpan is one layer of one command's device.
type TraceLayerSpan struct {
	Device string            `json:"device"`
	Alias  string            `json:"alias,omitempty" doc:"POOL/VOLUME"`
	NS     uint64            `json:"ns"`
	Stages []TraceInsideSpan `json:"stages,omitempty"`
}

// TraceInsideSpan is one stage inside of a device.
type TraceInsideSpan struct {
	Stage string `json:"stage"`
	NS    uint64 `json:"ns"`
}

var (
	TraceStart = changes[TraceStartParams, TraceStarted]("trace_start", Runtime,
		"Look closely at some of the commands of hosts, to find where their time goes.")
	TraceStop = changes[TraceParams, bool]("trace_stop", Runtime, "End a trace. What it found can be read for five minutes.")
	TraceRead = reads[TraceReadParams, Trace]("trace_read", Runtime, "Tell what a trace has found, while it runs or after.")
)
