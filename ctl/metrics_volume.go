package ctl

import (
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/volume"
)

// This file is the metrics of pools and volumes. A volume is named by its pool's name and its own, as commands name it; pollux_volume_info
// has its UUID, which is the name of its device. Batches and bytes for each flush are ratios of the log's counters.

var (
	mVolumeInfo  = family(Gauge, "pollux_volume_info", "1, with what a volume is.", "pool", "volume", "uuid", "write_cache")
	mVolumeRole  = family(Gauge, "pollux_volume_role", "1 for the role that a volume has on this server, 0 for the others.", "pool", "volume", "role")
	mVolumeEpoch = family(Gauge, "pollux_volume_epoch", "Epoch of a volume.", "pool", "volume")
	mVolumeState = family(Gauge, "pollux_volume_health", "1 for the state that a volume is in, 0 for the others.", "pool", "volume", "state")
	mVolumeScore = family(Gauge, "pollux_volume_health_score", "1, less 0.1 for each error of a scrub, at most 0.5, and 0.1 if the last scrub is older than two days.", "pool", "volume")
	mVolumeLoss  = family(Gauge, "pollux_volume_loss", "1 for what may be lost of a volume until somebody releases it (none, cache, log device), 0 for the others.", "pool", "volume", "loss")

	mVolumeSize      = family(Gauge, "pollux_volume_size_bytes", "Size of a volume.", "pool", "volume")
	mVolumeAllocated = family(Gauge, "pollux_volume_allocated_bytes", "Clusters that a volume has alone.", "pool", "volume")
	mVolumeSnapshots = family(Gauge, "pollux_volume_snapshots", "Snapshots of a volume.", "pool", "volume")

	mVolumeRequests = family(Counter, "pollux_volume_requests_total", "Requests to a volume that succeeded.", "pool", "volume", "op")
	mVolumeBytes    = family(Counter, "pollux_volume_bytes_total", "Bytes of requests to a volume that succeeded.", "pool", "volume", "op")
	mVolumeErrors   = family(Counter, "pollux_volume_errors_total", "Requests to a volume that failed.", "pool", "volume", "status")
	mVolumeLatency  = family(Latency, "pollux_volume_request_seconds", "Time that requests to a volume took that succeeded.", "pool", "volume", "op")
	mVolumeStage    = family(Latency, "pollux_volume_stage_seconds", "Time that changes of a volume spent in each stage; they add up to total.", "pool", "volume", "stage")
	mVolumeDoor     = family(Counter, "pollux_volume_admissions_total", "Changes of a volume by how they passed the door: open, space (the pool was asked), soft (slowed down), hard (waited for room), timeout (turned away).", "pool", "volume", "door")
	mVolumeDoorWait = family(Counter, "pollux_volume_admission_wait_seconds_total", "Time that changes of a volume waited at the door.", "pool", "volume", "door")

	mVolumeLSN        = family(Gauge, "pollux_volume_lsn", "Marks of a volume: appended, written, durable, committed, and checkpoint, up to which everything is home.", "pool", "volume", "mark")
	mVolumeLogSize    = family(Gauge, "pollux_volume_log_size_bytes", "Bytes of a volume's log that records may take.", "pool", "volume")
	mVolumeLogUsed    = family(Gauge, "pollux_volume_log_used_bytes", "Bytes of it that are taken or promised.", "pool", "volume")
	mVolumePressure   = family(Gauge, "pollux_volume_log_pressure", "0: none, 1: changes are slowed down, 2: and a checkpoint is made at once, 3: changes wait.", "pool", "volume")
	mVolumeDirty      = family(Gauge, "pollux_volume_dirty_bytes", "Blocks of a volume that wait to go home.", "pool", "volume")
	mVolumeRecords    = family(Counter, "pollux_volume_log_records_total", "Records that were written to a volume's log.", "pool", "volume")
	mVolumeBatches    = family(Counter, "pollux_volume_log_batches_total", "Batches that were written to a volume's log.", "pool", "volume")
	mVolumeLogBytes   = family(Counter, "pollux_volume_log_written_bytes_total", "Bytes that were written to a volume's log, headers included.", "pool", "volume")
	mVolumeLogPayload = family(Counter, "pollux_volume_log_payload_bytes_total", "Bytes of hosts among them.", "pool", "volume")
	mVolumeFlushes    = family(Counter, "pollux_volume_log_flushes_total", "Flushes of the device that a volume's log joined; a batch that is written through needs none.", "pool", "volume")

	mVolumePasses      = family(Counter, "pollux_volume_home_passes_total", "Passes that brought a volume's changes home.", "pool", "volume")
	mVolumeHomeBytes   = family(Counter, "pollux_volume_home_bytes_total", "Bytes that they wrote.", "pool", "volume")
	mVolumeMapBytes    = family(Counter, "pollux_volume_map_bytes_total", "Bytes of map and volume pages that a volume's checkpoints wrote.", "pool", "volume")
	mVolumeHomeErrors  = family(Counter, "pollux_volume_home_errors_total", "Writes at home that failed.", "pool", "volume")
	mVolumeCheckpoints = family(Counter, "pollux_volume_checkpoints_total", "Checkpoints of a volume.", "pool", "volume")

	mScrubPasses  = family(Counter, "pollux_volume_scrub_passes_total", "Scrubs of a volume that came to their end.", "pool", "volume")
	mScrubErrors  = family(Counter, "pollux_volume_scrub_errors_total", "Blocks that scrubs of a volume found not to be what was written.", "pool", "volume")
	mScrubBytes   = family(Counter, "pollux_volume_scrub_bytes_total", "Bytes that scrubs of a volume compared.", "pool", "volume")
	mScrubSeconds = family(Counter, "pollux_volume_scrub_seconds_total", "Time that scrubs of a volume ran.", "pool", "volume")
	mScrubLast    = family(Gauge, "pollux_volume_scrub_last_timestamp_seconds", "End of a volume's last scrub, 0 if there was none.", "pool", "volume")
	mScrubBad     = family(Gauge, "pollux_volume_scrub_bad_blocks", "Blocks that a volume's last scrub found, or the one under way, whatever is more.", "pool", "volume")
	mScrubAt      = family(Gauge, "pollux_volume_scrub_position_bytes", "How far a volume's scrub is.", "pool", "volume")

	mPoolSize     = family(Gauge, "pollux_pool_size_bytes", "Size of a pool.", "pool")
	mPoolFree     = family(Gauge, "pollux_pool_free_bytes", "Space of a pool that is free, what is promised included.", "pool")
	mPoolReserved = family(Gauge, "pollux_pool_reserved_bytes", "Free space of a pool that is promised.", "pool")
	mPoolResting  = family(Gauge, "pollux_pool_resting_bytes", "Space of a pool that is free two commits later.", "pool")
	mPoolUsed     = family(Gauge, "pollux_pool_used_bytes", "Space of a pool that its root refers to.", "pool")
	mPoolGranted  = family(Gauge, "pollux_pool_granted_bytes", "Space of a pool that was handed out, and to which its root does not refer yet.", "pool")
	mPoolFill     = family(Gauge, "pollux_pool_fill", "How full a pool is: 0 normal, 1 high, 2 critical, 3 full.", "pool")
	mPoolVolumes  = family(Gauge, "pollux_pool_volumes", "Volumes of a pool.", "pool")
	mPoolCommits  = family(Counter, "pollux_pool_commits_total", "Commits of a pool since it was opened.", "pool")
	mPoolFlushes  = family(Counter, "pollux_pool_flushes_total", "Flushes of a pool's device since it was opened, each for all who wait.", "pool")
	mPoolLogSize  = family(Gauge, "pollux_pool_log_device_size_bytes", "Size of the device that has a pool's logs, where there is one.", "pool")
	mPoolLogFree  = family(Gauge, "pollux_pool_log_device_free_bytes", "Space of it that new logs could have.", "pool")
	mPoolState    = family(Gauge, "pollux_pool_health", "1 for the state that a pool is in, 0 for the others.", "pool", "state")
)

// volumeMetrics gives the metrics of an engine's pools and volumes.
type volumeMetrics struct{ e *Engine }

// Families lists the metrics of this file.
func (volumeMetrics) Families() []*Family {
	return []*Family{
		mVolumeInfo, mVolumeRole, mVolumeEpoch, mVolumeState, mVolumeScore, mVolumeLoss, mVolumeSize, mVolumeAllocated, mVolumeSnapshots,
		mVolumeRequests, mVolumeBytes, mVolumeErrors, mVolumeLatency, mVolumeStage, mVolumeDoor, mVolumeDoorWait,
		mVolumeLSN, mVolumeLogSize, mVolumeLogUsed, mVolumePressure, mVolumeDirty, mVolumeRecords, mVolumeBatches, mVolumeLogBytes,
		mVolumeLogPayload, mVolumeFlushes, mVolumePasses, mVolumeHomeBytes, mVolumeMapBytes, mVolumeHomeErrors, mVolumeCheckpoints,
		mScrubPasses, mScrubErrors, mScrubBytes, mScrubSeconds, mScrubLast, mScrubBad, mScrubAt,
		mPoolSize, mPoolFree, mPoolReserved, mPoolResting, mPoolUsed, mPoolGranted, mPoolFill, mPoolVolumes, mPoolCommits, mPoolFlushes, mPoolLogSize, mPoolLogFree,
		mPoolState,
	}
}

// Scrape asks each pool and volume on its reactor.
func (m volumeMetrics) Scrape(s *Scrape) {
	now := time.Now()
	for _, p := range m.e.pools.list() {
		var healths []volume.Health
		for _, v := range p.Volumes() {
			if st, err := v.Stats(); err == nil {
				healths = append(healths, st.Health(now))
				scrapeVolume(s, p.Name(), &st, &healths[len(healths)-1])
			}
		}
		if i, err := p.Info(); err == nil {
			for _, d := range i.Damaged {
				healths = append(healths, d.Health())
				if d.Name != "" {
					states(s, mVolumeState, volume.Unsafe, volume.States, i.Name, d.Name)
				}
			}
			scrapePool(s, &i, healths)
		}
	}
}

// states gives 1 for what is, and 0 for all else that could be.
func states[S interface {
	~uint8
	String() string
}](s *Scrape, f *Family, is, end S, labels ...string) {
	for one := S(0); one < end; one++ {
		value := 0.0
		if one == is {
			value = 1
		}
		s.Value(f, value, append(labels[:len(labels):len(labels)], one.String())...)
	}
}

func scrapeVolume(s *Scrape, pool string, st *volume.VolumeStats, h *volume.Health) {
	at := []string{pool, st.Name}
	s.Value(mVolumeInfo, 1, pool, st.Name, st.UUID.String(), st.Cache.String())
	states(s, mVolumeRole, st.Role, volume.Roles, at...)
	states(s, mVolumeState, h.State, volume.States, at...)
	states(s, mVolumeLoss, st.Loss, volume.Losses, at...)
	last := 0.0
	if !st.Scrub.Last.IsZero() {
		last = float64(st.Scrub.Last.Unix())
	}
	for _, v := range []struct {
		of    *Family
		value float64
	}{
		{mVolumeEpoch, float64(st.Epoch)}, {mVolumeScore, h.Score}, {mVolumeSize, float64(st.Bytes)},
		{mVolumeAllocated, float64(st.Clusters * st.ClusterBytes)}, {mVolumeSnapshots, float64(st.Snapshots)},
		{mVolumeLogSize, float64(st.LogBytes)}, {mVolumeLogUsed, float64(st.LogUsed)}, {mVolumePressure, float64(st.Pressure)},
		{mVolumeDirty, float64(st.Dirty * volume.PageBytes)}, {mVolumeRecords, float64(st.Log.Records)}, {mVolumeBatches, float64(st.Log.Batches)},
		{mVolumeLogBytes, float64(st.Log.Bytes)}, {mVolumeLogPayload, float64(st.Log.PayloadBytes)}, {mVolumeFlushes, float64(st.Log.Flushes)},
		{mVolumePasses, float64(st.HomePasses)}, {mVolumeHomeBytes, float64(st.HomeBytes)}, {mVolumeMapBytes, float64(st.MapBytes)},
		{mVolumeHomeErrors, float64(st.HomeErrors)}, {mVolumeCheckpoints, float64(st.Checkpoints)},
		{mScrubPasses, float64(st.Scrub.Passes)}, {mScrubErrors, float64(st.Scrub.Errors)}, {mScrubBytes, float64(st.Scrub.ScrubStats.Bytes)},
		{mScrubSeconds, st.Scrub.Seconds()}, {mScrubLast, last}, {mScrubBad, float64(st.BadBlocks)},
		{mScrubAt, float64(st.Scrub.Block * volume.PageBytes)},
	} {
		s.Value(v.of, v.value, at...)
	}
	// On one node what is durable is committed.
	for mark, lsn := range map[string]float64{
		"appended": float64(st.Appended), "written": float64(st.Written), "durable": float64(st.Durable), "committed": float64(st.Durable), "checkpoint": float64(st.Home),
	} {
		s.Value(mVolumeLSN, lsn, pool, st.Name, mark)
	}
	for i := range st.Device.Kinds {
		if k, op := &st.Device.Kinds[i], bdev.Kind(i).String(); k.Ops > 0 {
			s.Value(mVolumeRequests, float64(k.Ops), pool, st.Name, op)
			s.Value(mVolumeBytes, float64(k.Bytes), pool, st.Name, op)
			s.Latency(mVolumeLatency, &k.Latency, pool, st.Name, op)
		}
	}
	for status := range bdev.Statuses {
		if n := st.Device.Errors[status]; n > 0 || alwaysTold(status) {
			s.Value(mVolumeErrors, float64(n), pool, st.Name, status.String())
		}
	}
	for stage := range volume.Stages {
		if h := &st.Stages[stage]; h.Count > 0 {
			s.Latency(mVolumeStage, h, pool, st.Name, stage.String())
		}
	}
	for door := range volume.Doors {
		s.Value(mVolumeDoor, float64(st.Door[door]), pool, st.Name, door.String())
		s.Value(mVolumeDoorWait, seconds(st.DoorWait[door]), pool, st.Name, door.String())
	}
}

func scrapePool(s *Scrape, i *volume.PoolInfo, healths []volume.Health) {
	in := volume.PoolHealthInput{Volumes: healths, Fill: i.Fill, Problems: i.Problems}
	states(s, mPoolState, in.Health().State, volume.States, i.Name)
	for _, v := range []struct {
		of    *Family
		pages uint64
	}{
		{mPoolSize, i.Space.Total}, {mPoolFree, i.Space.Free}, {mPoolReserved, i.Space.Reserved}, {mPoolResting, i.Space.Resting},
		{mPoolUsed, i.Space.Root}, {mPoolGranted, i.Space.Granted},
	} {
		s.Value(v.of, float64(v.pages*volume.PageBytes), i.Name)
	}
	if i.LogDevice != "" {
		s.Value(mPoolLogSize, float64(i.LogBytes), i.Name)
		s.Value(mPoolLogFree, float64(i.LogBytesFree), i.Name)
	}
	s.Value(mPoolFill, float64(i.Fill), i.Name)
	s.Value(mPoolVolumes, float64(i.Volumes), i.Name)
	s.Value(mPoolCommits, float64(i.Commits), i.Name)
	s.Value(mPoolFlushes, float64(i.Flushes), i.Name)
}
