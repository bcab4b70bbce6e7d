package api

// This file holds the methods about the log.

// LogLevelParams names a level.
type LogLevelParams struct {
	Level string `json:"level" rpc:"required" enum:"ERROR,WARNING,NOTICE,INFO,DEBUG" doc:"the least important messages to keep"`
}

// LogFlagParams names a package of the engine.
type LogFlagParams struct {
	Flag string `json:"flag" rpc:"required" doc:"a package such as nvmf, or all"`
}

// LogTimestampsParams turns times in the log on or off.
type LogTimestampsParams struct {
	Enabled bool `json:"enabled" rpc:"required" doc:"each line begins with the time"`
}

var (
	LogSetLevel = changes[LogLevelParams, bool]("log_set_level", Always,
		"Set from which level on messages are kept for engine_events.")
	LogGetLevel      = reads[None, string]("log_get_level", Always, "Tell from which level on messages are kept.")
	LogSetPrintLevel = changes[LogLevelParams, bool]("log_set_print_level", Always,
		"Set from which level on messages are printed to the standard error.")
	LogGetPrintLevel = reads[None, string]("log_get_print_level", Always, "Tell from which level on messages are printed.")
	LogSetFlag       = changes[LogFlagParams, bool]("log_set_flag", Always,
		"Print and keep one package's messages of every level, debugging included.")
	LogClearFlag = changes[LogFlagParams, bool]("log_clear_flag", Always, "Take log_set_flag back.")
	LogGetFlags  = reads[None, map[string]bool]("log_get_flags", Always,
		"List the packages and whether their flag is set.")
	LogEnableTimestamps = changes[LogTimestampsParams, bool]("log_enable_timestamps", Always,
		"Begin each printed line with the time, or not.")
)
