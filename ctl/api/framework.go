package api

import "encoding/json"

// This file holds the methods about the engine's frame: methods, states, subsystems, reactors, threads, signals.

// RPCGetMethodsParams selects methods.
type RPCGetMethodsParams struct {
	Current        bool `json:"current,omitempty" default:"false" doc:"only the methods that may be called in the present state"`
	IncludeAliases bool `json:"include_aliases,omitempty" default:"false" doc:"names of older releases of SPDK too"`
}

// Version is what this engine calls itself, and the SPDK release whose interface it follows.
type Version struct {
	Version string        `json:"version"`
	Fields  VersionFields `json:"fields"`
}

// VersionFields are the numbers of the SPDK release, for scripts that branch on them.
type VersionFields struct {
	Major  uint32 `json:"major"`
	Minor  uint32 `json:"minor"`
	Patch  uint32 `json:"patch"`
	Suffix string `json:"suffix"`
	Commit string `json:"commit,omitempty"`
}

// Subsystem is one part of the engine, listed after everything that it depends on.
type Subsystem struct {
	Subsystem string   `json:"subsystem"`
	DependsOn []string `json:"depends_on"`
}

// FrameworkGetConfigParams names a subsystem.
type FrameworkGetConfigParams struct {
	Name        string `json:"name" rpc:"required" doc:"subsystem, as framework_get_subsystems lists it"`
	WithBatches bool   `json:"with_batches,omitempty" default:"false" doc:"keep calls that belong together in lists; nothing here is saved so"`
}

// ConfigCall is one call of a saved configuration.
type ConfigCall struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
	// value is Params with the places where its parts stand, if the call was read from a file.
	value *Value
}

// Reactors are the engine's polling threads.
type Reactors struct {
	TickRate uint64    `json:"tick_rate" doc:"ticks per second of every time in this answer"`
	PID      int       `json:"pid"`
	Reactors []Reactor `json:"reactors"`
}

// Reactor is one polling thread, pinned to a core.
type Reactor struct {
	Lcore       uint32     `json:"lcore" doc:"CPU"`
	NUMAID      int        `json:"numa_id"`
	TID         int        `json:"tid" doc:"thread in the kernel"`
	Busy        uint64     `json:"busy" doc:"ticks with work done"`
	Idle        uint64     `json:"idle" doc:"ticks without"`
	InInterrupt bool       `json:"in_interrupt" doc:"asleep in the kernel now"`
	IRQ         uint64     `json:"irq" doc:"ticks the core spent in interrupts"`
	Sys         uint64     `json:"sys" doc:"ticks the core spent in the kernel"`
	Usr         uint64     `json:"usr" doc:"ticks the core spent in programs"`
	CoreFreq    uint32     `json:"core_freq,omitempty" doc:"MHz"`
	LwThreads   []LwThread `json:"lw_threads"`
}

// LwThread is what SPDK calls a thread; here each reactor is one.
type LwThread struct {
	Name    string `json:"name"`
	ID      uint64 `json:"id"`
	CPUMask string `json:"cpumask" doc:"hexadecimal"`
	Elapsed uint64 `json:"elapsed" doc:"ticks since it started"`
}

// Threads are the statistics of all reactors.
type Threads struct {
	TickRate uint64        `json:"tick_rate"`
	Threads  []ThreadStats `json:"threads"`
}

// ThreadStats are the statistics of one reactor.
type ThreadStats struct {
	Name               string `json:"name"`
	ID                 uint64 `json:"id"`
	CPUMask            string `json:"cpumask"`
	Busy               uint64 `json:"busy"`
	Idle               uint64 `json:"idle"`
	ActivePollersCount uint64 `json:"active_pollers_count"`
	TimedPollersCount  uint64 `json:"timed_pollers_count"`
	PausedPollersCount uint64 `json:"paused_pollers_count"`
}

// ThreadPollers are the pollers of all reactors.
type ThreadPollers struct {
	TickRate uint64          `json:"tick_rate"`
	Threads  []PollersThread `json:"threads"`
}

// PollersThread are the pollers of one reactor.
type PollersThread struct {
	Name          string   `json:"name"`
	ID            uint64   `json:"id"`
	ActivePollers []Poller `json:"active_pollers"`
	TimedPollers  []Poller `json:"timed_pollers"`
	PausedPollers []Poller `json:"paused_pollers"`
}

// Poller is one poller.
type Poller struct {
	Name        string `json:"name"`
	ID          uint64 `json:"id"`
	State       string `json:"state"`
	RunCount    uint64 `json:"run_count"`
	BusyCount   uint64 `json:"busy_count"`
	PeriodTicks uint64 `json:"period_ticks,omitempty"`
}

// ThreadChannels are the channels of all reactors.
type ThreadChannels struct {
	TickRate uint64           `json:"tick_rate"`
	Threads  []ChannelsThread `json:"threads"`
}

// ChannelsThread are the channels of one reactor.
type ChannelsThread struct {
	Name       string      `json:"name"`
	ID         uint64      `json:"id"`
	IOChannels []IOChannel `json:"io_channels"`
}

// IOChannel is a device as one reactor has it open.
type IOChannel struct {
	Name string `json:"name"`
	Ref  uint32 `json:"ref" doc:"users"`
}

// SetSchedulerParams say whether I/O queues move between reactors. Threads stay on their cores.
type SetSchedulerParams struct {
	Name      string `json:"name" rpc:"required" doc:"dynamic moves queues when reactors are uneven, static does not"`
	Period    uint64 `json:"period,omitempty" default:"1000000" doc:"microseconds between two looks at the reactors"`
	LoadLimit uint8  `json:"load_limit,omitempty" default:"20" max:"100" doc:"no effect"`
	CoreLimit uint8  `json:"core_limit,omitempty" default:"80" max:"100" doc:"no effect"`
	CoreBusy  uint8  `json:"core_busy,omitempty" default:"85" max:"100" doc:"percent of its time in which a reactor is busy that gives a queue away"`
	Mappings  string `json:"mappings,omitempty" doc:"no effect"`
}

// Scheduler says who places threads on cores.
type Scheduler struct {
	SchedulerName    string `json:"scheduler_name"`
	SchedulerPeriod  uint64 `json:"scheduler_period" doc:"microseconds"`
	IsolatedCoreMask string `json:"isolated_core_mask"`
	SchedulingCore   uint32 `json:"scheduling_core"`
	GovernorName     string `json:"governor_name,omitempty"`
}

// SchedulerSetOptionsParams is taken from saved configurations.
type SchedulerSetOptionsParams struct {
	SchedulingCore   *uint32 `json:"scheduling_core,omitempty" doc:"core of the scheduler"`
	IsolatedCoreMask string  `json:"isolated_core_mask,omitempty" doc:"cores left alone, hexadecimal"`
}

// KillParams names a signal, or gives its number as a string.
type KillParams struct {
	SigName string `json:"sig_name" rpc:"required" doc:"SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGKILL or SIGUSR1"`
}

var (
	RPCGetMethods = reads[RPCGetMethodsParams, []string]("rpc_get_methods", Always,
		"List the methods that this engine has.")
	SPDKGetVersion = reads[None, Version]("spdk_get_version", Always,
		"Tell this engine's version and the SPDK release whose interface it follows.")
	FrameworkStartInit = changes[None, bool]("framework_start_init", Startup,
		"End the startup state: make the engine's parts with the options set so far. Answers when everything is up.")
	FrameworkWaitInit = reads[None, bool]("framework_wait_init", Always,
		"Answer when the engine is in the runtime state.")
	FrameworkGetSubsystems = reads[None, []Subsystem]("framework_get_subsystems", Always,
		"List the engine's parts, each after all that it depends on.")
	FrameworkGetConfig = reads[FrameworkGetConfigParams, *[]ConfigCall]("framework_get_config", Always,
		"Give the calls that bring one part of the engine to its present configuration; null where it has none.")
	FrameworkGetReactors = reads[None, Reactors]("framework_get_reactors", Runtime,
		"List the polling threads with their busy and idle time.")
	ThreadGetStats = reads[None, Threads]("thread_get_stats", Runtime,
		"Give the reactors' statistics under SPDK's name for them.")
	ThreadGetPollers = reads[None, ThreadPollers]("thread_get_pollers", Runtime,
		"List the pollers of every reactor.")
	ThreadGetIOChannels = reads[None, ThreadChannels]("thread_get_io_channels", Runtime,
		"List the devices that every reactor has open.")
	FrameworkSetScheduler = changes[SetSchedulerParams, bool]("framework_set_scheduler", Always,
		"Choose whether I/O queues move between reactors when these are uneven (dynamic, as the engine begins) or not (static).")
	FrameworkGetScheduler = reads[None, Scheduler]("framework_get_scheduler", Runtime,
		"Tell whether I/O queues move between reactors.")
	SchedulerSetOptions = changes[SchedulerSetOptionsParams, bool]("scheduler_set_options", Startup,
		"Take the scheduler's options of a saved configuration; without effect, for nothing here moves threads.")
	SPDKKillInstance = admin(changes[KillParams, bool]("spdk_kill_instance", Runtime,
		"Send the engine a signal. SIGINT and SIGTERM drain it first."))
)
