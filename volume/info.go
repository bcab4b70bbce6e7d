package volume

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what is told about pools and volumes.

// PoolInfo is a pool as it is now.
type PoolInfo struct {
	Name          string
	UUID          uuid.UUID
	Device        string // it stands on
	ClusterBytes  uint64
	Clusters      uint64 // in all
	ClustersFree  uint64 // of which every page is free, and nobody was promised it
	ClustersAfter uint64 // in all, if the pool took all of its device
	Space         Space
	LogDevice     string // "" if the logs are in the pool
	LogBytes      uint64 // of the log device
	LogBytesFree  uint64 // that new logs could have
	Fill          Fill
	Volumes       int
	Flushes       uint64 // of its device, since it was opened
	Commits       uint64
	Problems      []string
	Damaged       []*DamagedVolume // that are not served
}

// Info tells about the pool.
func (p *Pool) Info() (PoolInfo, error) {
	p.mu.Lock()
	pages, problems := p.pages, slices.Clone(p.problems)
	p.mu.Unlock()
	device := p.handle.Device()
	geometry := device.Geometry()
	i := PoolInfo{
		Name: p.Name(), UUID: p.id, Device: device.Name(), ClusterBytes: p.shape.ClusterBytes(), Clusters: pages >> p.shape.shift,
		ClustersAfter: geometry.Bytes() / p.shape.ClusterBytes(), Volumes: len(p.Volumes()), Problems: problems, Damaged: p.Damaged(),
	}
	for _, d := range i.Damaged {
		i.Problems = append(i.Problems, d.Problem())
	}
	i.LogDevice = p.LogDeviceName()
	var promised uint64
	err := p.r.Call(func() {
		i.Space, i.Fill, i.Commits = p.alloc.Space(), p.alloc.Fill(DefaultWatermarks), p.commits
		if p.logs != nil {
			i.LogBytes, i.LogBytesFree = p.logs.space.pages*PageBytes, p.logs.space.free()*PageBytes
		}
		i.Flushes = p.barrier.Flushes()
		i.ClustersFree, promised = i.Space.Clusters, p.alloc.reserved.Clusters
	})
	i.ClustersFree -= min(i.ClustersFree, promised)
	return i, err
}

// ClusterBytes is the unit of its space.
func (p *Pool) ClusterBytes() uint64 { return p.shape.ClusterBytes() }

// DeviceName is the name of the device that it stands on.
func (p *Pool) DeviceName() string { return p.handle.Device().Name() }

// LogDeviceName is the name of the device with its logs, "" if they are in the pool.
func (p *Pool) LogDeviceName() string {
	if p.logs == nil {
		return ""
	}
	return p.logs.handle.Device().Name()
}

// VolumeInfo is a volume as it is now.
type VolumeInfo struct {
	Name       string
	UUID       uuid.UUID
	Number     VolumeNumber
	Bytes      uint64
	BlockBytes uint32
	Clusters   uint64 // that it has places for
	Thick      bool
	Reserved   uint64 // thick: clusters that it will have places for
	Cache      WriteCache
	ReadOnly   bool
	Verify     bool
	Role       Role
	Epoch      wal.Epoch
	Created    time.Time
	Failed     bdev.Status // why it takes no changes any more
	Stranded   bdev.Status // why what it takes cannot be brought home for now
	Wounded    bool        // its log lost a durable record

	// Marks of its log, each an LSN, and how full that is, in bytes.
	Appended, Written, Durable, Home wal.LSN
	LogBytes, LogUsed                uint64
	LogAreaBytes                     uint64 // that the log takes of its device
	Use                              LogUse

	CacheLoss            CacheLoss
	Loss                 Loss // that nobody released
	LossKnown, LossFound wal.LSN
	Fenced               bool

	Scrubbed  time.Time // the end of the last scrub; zero if there was none
	BadBlocks uint64    // that it found, or the one under way, whatever is more
}

// Info tells about the volume.
func (v *Volume) Info() (VolumeInfo, error) {
	i := v.identity()
	err := v.r.Call(func() { v.tell(&i) })
	return i, err
}

// identity is what control knows of it.
func (v *Volume) identity() VolumeInfo {
	return VolumeInfo{Name: v.Name(), UUID: v.device.UUID(), ReadOnly: v.device.Geometry().ReadOnly}
}

// tell adds what its reactor knows.
func (v *Volume) tell(i *VolumeInfo) {
	p := &v.page
	i.Number, i.Bytes, i.BlockBytes, i.Clusters = p.Number, p.Bytes, p.BlockBytes, v.alone
	if i.Thick = v.thick.on; i.Thick {
		i.Reserved = uint64(v.thickNeed().clusters) - v.alone
	}
	i.Cache, i.Verify, i.Role, i.Epoch, i.Created = v.cache, v.verify, v.role, p.epochNow(), time.Unix(p.Created, 0)
	i.Use, i.CacheLoss = p.Use, p.CacheLoss
	i.Loss, i.LossKnown, i.LossFound, i.Fenced = p.Loss, p.LossKnown, p.LossFound, p.Flags.Has(VolumeFenced)
	for _, e := range p.Log {
		i.LogAreaBytes += e.Pages * PageBytes
	}
	i.BadBlocks = max(p.ScrubErrors, v.scrub.soFar())
	if p.Scrubbed != 0 {
		i.Scrubbed = time.Unix(p.Scrubbed, 0)
	}
	i.Failed, i.Wounded = v.failed, p.Flags.Has(VolumeWounded)
	if v.cause != bdev.StatusOK {
		i.Failed = v.cause
	}
	if v.isStranded() {
		i.Stranded = v.flusher.stranded.cause
	}
	i.Appended, i.Written, i.Durable = v.log.Marks()
	i.Home = p.Checkpoint
	i.LogBytes, i.LogUsed = v.log.Size(), v.log.Used()
}

// Pool is the pool that it lives in.
func (v *Volume) Pool() *Pool { return v.pool }
