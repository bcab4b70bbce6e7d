package api

// This file holds the methods about the engine that SPDK has no word for.

// EngineInfo is what this engine is and runs on.
type EngineInfo struct {
	Version    string    `json:"version"`
	Commit     string    `json:"commit,omitempty"`
	Go         string    `json:"go" doc:"compiler"`
	Kernel     string    `json:"kernel"`
	Hostname   string    `json:"hostname"`
	PID        int       `json:"pid"`
	Started    string    `json:"started" doc:"RFC 3339"`
	UptimeSec  uint64    `json:"uptime_sec"`
	State      string    `json:"state" doc:"startup or runtime"`
	IdlePolicy string    `json:"idle_policy"`
	Cores      []uint32  `json:"cores" doc:"with a reactor"`
	CPU        EngineCPU `json:"cpu"`
	Abilities  []string  `json:"abilities" doc:"what this build on this machine can do, such as tcp, iscsi, rdma, iopoll"`

	Memory   []EngineMemory   `json:"memory" doc:"buffers for I/O, of each reactor"`
	MapCache []EngineMapCache `json:"map_cache,omitempty" doc:"pages of the maps of volumes, of each reactor that has volumes"`
}

// EngineMapCache is the memory on one reactor for pages of maps, which all volumes there share.
type EngineMapCache struct {
	Reactor         string `json:"reactor"`
	LimitBytes      uint64 `json:"limit_bytes" doc:"the most there may be: what was asked for, or what so many volumes need at the least"`
	InUseBytes      uint64 `json:"in_use_bytes" doc:"pages that are there"`
	DirtyBytes      uint64 `json:"dirty_bytes" doc:"of those that checkpoints have to write"`
	GuaranteedBytes uint64 `json:"guaranteed_bytes" doc:"that volumes may have dirty whatever others do"`
	LentBytes       uint64 `json:"lent_bytes" doc:"that, and what is lent beyond it"`
	Hits            uint64 `json:"hits"`
	Misses          uint64 `json:"misses" doc:"pages that were read"`
	Evictions       uint64 `json:"evictions" doc:"pages that gave way to others"`
}

// EngineMemory is a reactor's memory for I/O.
type EngineMemory struct {
	Reactor         string `json:"reactor"`
	LimitBytes      uint64 `json:"limit_bytes" doc:"the most there may be"`
	ReadyBytes      uint64 `json:"ready_bytes" doc:"what there is"`
	InUseBytes      uint64 `json:"in_use_bytes"`
	HugeBytes       uint64 `json:"huge_bytes" doc:"what there is of hugepages"`
	WhyNotHuge      string `json:"why_not_huge,omitempty" doc:"why that is not all"`
	Registered      bool   `json:"registered" doc:"all there is is registered with the reactor's ring"`
	WhyUnregistered string `json:"why_not_registered,omitempty"`
}

// EngineHeap is the memory of everything but I/O.
type EngineHeap struct {
	Bytes            uint64 `json:"bytes" doc:"objects that are in use, and those that the collector has not found to be free"`
	AllocatedObjects uint64 `json:"allocated_objects" doc:"since the start"`
	Collections      uint64 `json:"collections" doc:"cycles of the garbage collector since the start"`
}

// EngineReactor is what one reactor did since it began.
type EngineReactor struct {
	Name        string      `json:"name"`
	Core        int         `json:"core" doc:"-1: it is on any"`
	IdlePolicy  string      `json:"idle_policy"`
	BusyNS      uint64      `json:"busy_ns" doc:"in turns that found work"`
	IdleNS      uint64      `json:"idle_ns" doc:"all other time, asleep included"`
	AsleepNS    uint64      `json:"asleep_ns"`
	Turns       uint64      `json:"turns" doc:"of its loop"`
	Sleeps      uint64      `json:"sleeps" doc:"how often it went to sleep"`
	Enters      uint64      `json:"ring_enters" doc:"system calls into its ring"`
	Completions uint64      `json:"completions" doc:"of operations"`
	Messages    uint64      `json:"messages" doc:"received from other reactors"`
	LongestNS   uint64      `json:"longest_turn_ns" doc:"as long as a turn goes on, nothing else moves on that reactor; time in which its thread did not run is part of it, sleep is not"`
	SlowTurns   []SlowTurns `json:"slow_turns" doc:"those of more than 20 microseconds"`
}

// SlowTurns counts turns that took about as long.
type SlowTurns struct {
	UpToNS uint64 `json:"up_to_ns" doc:"and more than 9 percent less"`
	Turns  uint64 `json:"turns"`
}

// EngineCPU is the processor as the engine uses it.
type EngineCPU struct {
	Model    string   `json:"model"`
	Features []string `json:"features" doc:"instructions that the engine makes use of"`
}

// EngineHealth is one state, with all that led to it.
type EngineHealth struct {
	State   string         `json:"state" doc:"ok, degraded or failed"`
	Reasons []HealthReason `json:"reasons"`
}

// HealthReason is one thing that is not as it should be.
type HealthReason struct {
	State  string `json:"state" doc:"what this alone makes of the engine"`
	Object string `json:"object" doc:"what it is about, such as bdev:disk0"`
	Why    string `json:"why"`
	Since  string `json:"since" doc:"RFC 3339"`
}

// EngineGetSchemaParams name a method, or none for all.
type EngineGetSchemaParams struct {
	Method string `json:"method,omitempty" doc:"method; all without it"`
}

// EngineSchema describes methods.
type EngineSchema struct {
	Dialect string         `json:"$schema"`
	Methods []MethodSchema `json:"methods"`
}

// MethodSchema describes one method.
type MethodSchema struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	States      []string `json:"states" doc:"when it may be called"`
	Reads       bool     `json:"reads" doc:"it changes nothing"`
	Role        string   `json:"role" doc:"the least that may call it over TLS: viewer, operator or admin"`
	Params      *Schema  `json:"params"`
	Result      *Schema  `json:"result"`
}

// EngineEventsParams select events.
type EngineEventsParams struct {
	ID    uint64  `json:"id,omitempty" default:"0" doc:"first event; the oldest kept one if it is gone"`
	Max   *uint64 `json:"max,omitempty" doc:"events, at most; all without it"`
	Level string  `json:"level,omitempty" default:"DEBUG" enum:"ERROR,WARNING,NOTICE,INFO,DEBUG" doc:"the least important ones to give"`
}

// EngineEvent is a message of the log.
type EngineEvent struct {
	ID      uint64            `json:"id"`
	Time    string            `json:"time" doc:"RFC 3339"`
	Level   string            `json:"level"`
	Flag    string            `json:"flag" doc:"package"`
	Message string            `json:"message"`
	Attrs   map[string]string `json:"attrs,omitempty" doc:"what the message is about; of a call: method, request id, and who asked"`
}

// EngineSetIdlePolicyParams say what a reactor does without work.
type EngineSetIdlePolicyParams struct {
	Policy string  `json:"policy" rpc:"required" enum:"poll,adaptive,interrupt" doc:"never sleep, sleep after a while, sleep at once"`
	SpinUS *uint32 `json:"spin_us,omitempty" doc:"microseconds without work until an adaptive reactor sleeps"`
}

// EngineGetLatencyParams select histograms.
type EngineGetLatencyParams struct {
	Name string `json:"name,omitempty" doc:"device; all without it"`
}

// Latency is the distribution of one kind of operation.
type Latency struct {
	Name   string `json:"name" doc:"device"`
	Op     string `json:"op" doc:"operation or stage"`
	Count  uint64 `json:"count"`
	MeanNS uint64 `json:"mean_ns"`
	P50NS  uint64 `json:"p50_ns"`
	P90NS  uint64 `json:"p90_ns"`
	P99NS  uint64 `json:"p99_ns"`
	P999NS uint64 `json:"p999_ns"`
	MaxNS  uint64 `json:"max_ns"`
}

// EngineDrainParams bound an emptying.
type EngineDrainParams struct {
	TimeoutSec uint32 `json:"timeout_sec,omitempty" default:"0" doc:"seconds until the drain fails and the engine serves again; 0 is no limit"`
}

// JobStarted names work that goes on after the answer.
type JobStarted struct {
	Job string `json:"job"`
}

// Job is long work.
type Job struct {
	Job     string `json:"job"`
	Method  string `json:"method" doc:"the call that began it"`
	Object  string `json:"object"`
	State   string `json:"state" doc:"running, cancelling, done, failed or cancelled"`
	Done    uint64 `json:"done"`
	Total   uint64 `json:"total"`
	Unit    string `json:"unit" doc:"of done and total"`
	Started string `json:"started" doc:"RFC 3339"`
	Ended   string `json:"ended,omitempty" doc:"RFC 3339"`
	Error   string `json:"error,omitempty" doc:"why it did not do all, and what it left"`
	Code    int    `json:"code,omitempty" doc:"of the error, as of a call that fails"`
	Reason  string `json:"reason,omitempty" doc:"of the error, where it has one"`
}

// EngineJobsParams name a job, or none for all.
type EngineJobsParams struct {
	Job    string `json:"job,omitempty" doc:"job; all without it"`
	WaitMS uint32 `json:"wait_ms,omitempty" default:"0" doc:"milliseconds to wait for the end of that job"`
}

// EngineCancelParams name a job.
type EngineCancelParams struct {
	Job string `json:"job" rpc:"required"`
}

var (
	EngineGetInfo = reads[None, EngineInfo]("engine_info", Always, "Tell what this engine is and runs on.")
	EngineGetHeap = reads[None, EngineHeap]("engine_get_heap", Always,
		"Count what the engine has allocated on the Go heap, exactly: the reactors stand still for it, some tens of microseconds.")
	EngineGetReactors = reads[None, []EngineReactor]("engine_get_reactors", Always,
		"Tell what each reactor did, and how long its turns were at the most.")
	EngineGetHealth = reads[None, EngineHealth]("engine_health", Always,
		"Tell the engine's health as one state, with every reason for it.")
	EngineGetSchema = reads[EngineGetSchemaParams, EngineSchema]("engine_get_schema", Always,
		"Describe methods, their parameters and results as JSON Schema.")
	EngineEvents = reads[EngineEventsParams, []EngineEvent]("engine_events", Always,
		"List what happened, and who asked for it.")
	EngineSetIdlePolicy = changes[EngineSetIdlePolicyParams, bool]("engine_set_idle_policy", Runtime,
		"Choose what reactors do without work.")
	EngineGetLatency = reads[EngineGetLatencyParams, []Latency]("engine_get_latency", Runtime,
		"Give latencies by device and operation.")
	EngineDrain = changes[EngineDrainParams, JobStarted]("engine_drain", Runtime,
		"Take no more connections and let those there are end, before an upgrade.")
	EngineUndrain = changes[None, bool]("engine_undrain", Runtime, "Take connections again after a drain, or at last where a configuration could be loaded in part only.")
	EngineJobs    = reads[EngineJobsParams, []Job]("engine_jobs", Runtime,
		"List long work that goes on or has ended, or tell of one job, when it has ended.")
	EngineCancel = changes[EngineCancelParams, bool]("engine_cancel", Runtime, "End long work before it is done.")
)
