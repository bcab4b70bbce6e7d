package volume

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/wal"
)

// This file holds what is true of every format: golden images, every truncation and every flipped bit, round trips, fuzz, no
// allocation. The images were computed apart from the code; testdata draws them.

var (
	testPool   = uuid.UUID{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
	testServer = sequence(0xc0)
	testBoot   = sequence(0xe0)
)

func sequence(from byte) (u uuid.UUID) {
	for i := range u {
		u[i] = from + byte(i)
	}
	return u
}

const testPages = 1 << 20 // of the pool to which the images belong

// golden reads an image from testdata: hex digits, 00*n for n zeros, comments.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	var page []byte
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for _, f := range strings.Fields(line) {
			if n, ok := strings.CutPrefix(f, "00*"); ok {
				zeros, err := strconv.Atoi(n)
				if err != nil {
					t.Fatalf("%s: %q", name, f)
				}
				page = append(page, make([]byte, zeros)...)
				continue
			}
			b, err := hex.DecodeString(f)
			if err != nil {
				t.Fatalf("%s: %q: %v", name, f, err)
			}
			page = append(page, b...)
		}
	}
	if len(page) != PageBytes {
		t.Fatalf("%s has %d bytes", name, len(page))
	}
	return page
}

func name(s string) Name {
	n, err := MakeName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// formats are all of them. decode gives what it found, as something that encode takes.
var formats = []struct {
	name   string
	want   any
	encode func(page []byte, v any) uint32
	decode func(page []byte, crc uint32) (any, error)
}{
	{
		name: "slot",
		want: &Slot{
			Number: 1, Generation: 0x0102030405060708, Pool: testPool, Server: testServer, Name: name("tank"), ClusterShift: 4, Clean: true,
			Pages: 100000, LogDevice: sequence(0xd0), PagesUsed: 54321, BitmapSum: 0x1122334455667788, NextVolume: 9,
			Directory: Ref{4711, 0xDEADBEEF}, Volumes: 3, Areas: []Area{{32, 0, 64512}, {64512, 64512, 35488}}, Boot: testBoot, LogOpened: 77,
		},
		encode: func(page []byte, v any) uint32 { v.(*Slot).EncodeTo(page); return 0 },
		decode: func(page []byte, _ uint32) (any, error) {
			var s Slot
			return &s, s.Decode(page, 1)
		},
	},
	{
		name: "volume",
		want: &VolumePage{
			Number: 7, Position: 300, UUID: sequence(0x10), Name: name("pg-data"), Bytes: 10 << 30, BlockBytes: 4096,
			Flags: VolumeCacheVolatile | VolumeVerify | VolumeClean | VolumeFenced, Role: RolePrimary, CacheLoss: CacheLossFence, Snapshots: 2, Levels: 2,
			Epoch: 5, Lineage: 0x55, Life: 6, Checkpoint: 1000, LogOffset: 0x123456000, Durable: 1010, ClustersAlone: 160,
			Map: Ref{501, 0x01010101}, SnapshotTop: Ref{502, 0x02020202}, Reservations: Ref{503, 0x03030303},
			Parent: 4, ParentSnapshot: 2, BranchedAt: 900, NextSnapshot: 4, Created: 1790000000, ScrubCursor: 17, Deleting: 3, DeletingCluster: 99,
			Boot: testBoot, ClustersReserved: 12, PagesReserved: 34, Scrubbed: 1790000200, ScrubErrors: 3, ScrubFound: 1, ScrubSnapshot: 2, Log: []Extent{{1600, 8192}, {32000, 8192}}, Epochs: []EpochStart{{4, 901}, {5, 950}},
			Use: LogUseDatabase, Loss: LossCache, LossKnown: 990, LossFound: 995, Requests: [RequestsMax]uuid.UUID{sequence(0x30), sequence(0x40)},
		},
		encode: func(page []byte, v any) uint32 { return v.(*VolumePage).EncodeTo(page, testPool) },
		decode: func(page []byte, crc uint32) (any, error) {
			var v VolumePage
			return &v, v.Decode(page, testPool, 300, crc, testPages)
		},
	},
	{
		name: "snapshots",
		want: []Snapshot{{
			Number: 29, LSN: 960, UUID: sequence(0x20), Name: name("nightly"), Bytes: 5 << 30, Created: 1790000100, Map: Ref{600, 0x04040404},
			Levels: 2, Flags: SnapshotDeleting | SnapshotTemporary, Clusters: 150,
		}},
		encode: func(page []byte, v any) uint32 {
			return EncodeSnapshots(page, v.([]Snapshot), Header{Pool: testPool, Volume: 7, Index: 1, Stamp: 1000})
		},
		decode: func(page []byte, crc uint32) (any, error) {
			return DecodeSnapshots(nil, page, Want{Pool: testPool, Volume: 7, Index: 1, CRC: crc, Pages: testPages})
		},
	},
	{
		name: "reservations",
		want: []byte("state"),
		encode: func(page []byte, v any) uint32 {
			return EncodeReservations(page, v.([]byte), Header{Pool: testPool, Volume: 7, Stamp: 1000})
		},
		decode: func(page []byte, crc uint32) (any, error) {
			return DecodeReservations(page, Want{Pool: testPool, Volume: 7, CRC: crc})
		},
	},
	{
		name: "index",
		want: map[int]Ref{0: {81, 0x12345678}, 251: {82, 0x9ABCDEF0}},
		encode: func(page []byte, v any) uint32 {
			setRefs(page, v)
			return SealRefs(page, Header{Kind: KindIndex, Level: 1, Pool: testPool, Volume: 3, Index: 2, Stamp: 77})
		},
		decode: func(page []byte, crc uint32) (any, error) {
			_, err := OpenRefs(page, &Want{Kind: KindIndex, Level: 1, Pool: testPool, Volume: 3, Index: 2, CRC: crc, Pages: testPages})
			return refsOf(page, err), err
		},
	},
	{
		name:   "directory",
		want:   map[int]Ref{0: {700, 0x05050505}, 48: {701, 0x06060606}},
		encode: func(page []byte, v any) uint32 { setRefs(page, v); return SealDirectory(page, testPool, 1, 42) },
		decode: func(page []byte, crc uint32) (any, error) {
			_, err := OpenDirectory(page, testPool, 1, crc, testPages)
			return refsOf(page, err), err
		},
	},
	{
		name: "leaf",
		want: map[int]entryFields{
			0: {4096, 40, 70, map[int]uint32{0: 0x11111111, 9: 0x22222222, 15: 0x33333333}},
			2: {0, 0, 71, map[int]uint32{}},
		},
		encode: func(page []byte, v any) uint32 {
			clear(page)
			s := ShapeOf(4)
			for i, f := range v.(map[int]entryFields) {
				f.set(s.Entry(page, i))
			}
			return s.SealLeaf(page, Header{Pool: testPool, Volume: 3, Index: 5, Stamp: 77})
		},
		decode: func(page []byte, crc uint32) (any, error) {
			s := ShapeOf(4)
			_, err := s.OpenLeaf(page, &Want{Kind: KindLeaf, Pool: testPool, Volume: 3, Index: 5, CRC: crc, Pages: testPages})
			if err != nil {
				return nil, err
			}
			return leafFields(s, page), nil
		},
	},
	{
		name:   "bitmap",
		want:   map[int]uint64{0: 1 | 1<<9, 503: 1 << 63},
		encode: func(page []byte, v any) uint32 { return encodeBitmap(page, wordsOf(v), testPool, 1, 42) },
		decode: func(page []byte, crc uint32) (any, error) {
			g, has, err := checkBitmap(page, testPool, 1)
			if err == nil && (g != 42 || has != crc) {
				return nil, errors.New("another generation or CRC")
			}
			m := map[int]uint64{}
			for i := 0; err == nil && i < wordsPerPage; i++ {
				if w := bitmapWord(page, i); w != 0 {
					m[i] = w
				}
			}
			return m, err
		},
	},
	{
		name:   "loghead",
		want:   &LogHead{Number: 1, Generation: 7, Pool: testPool, UUID: sequence(0xd0), Pages: 100000},
		encode: func(page []byte, v any) uint32 { v.(*LogHead).EncodeTo(page); return 0 },
		decode: func(page []byte, _ uint32) (any, error) {
			var h LogHead
			return &h, h.Decode(page, 1)
		},
	},
}

func setRefs(page []byte, v any) {
	clear(page)
	for i, r := range v.(map[int]Ref) {
		SetRef(page, i, r)
	}
}

func refsOf(page []byte, err error) map[int]Ref {
	m := map[int]Ref{}
	for i := 0; err == nil && i < RefsMax; i++ {
		if r := RefAt(page, i); !r.IsZero() {
			m[i] = r
		}
	}
	return m
}

func wordsOf(v any) []uint64 {
	words := make([]uint64, wordsPerPage)
	for i, w := range v.(map[int]uint64) {
		words[i] = w
	}
	return words
}

// entryFields is an entry taken apart.
type entryFields struct {
	Place         Place
	Birth, Change wal.LSN
	Blocks        map[int]uint32
}

func (f entryFields) set(e Entry) {
	e.SetPlace(f.Place, f.Birth)
	e.SetChange(f.Change)
	for b, crc := range f.Blocks {
		e.SetBlock(b, crc)
	}
}

func leafFields(s Shape, page []byte) map[int]entryFields {
	m := map[int]entryFields{}
	for i := range s.Entries() {
		e := s.Entry(page, i)
		if e.IsEmpty() {
			continue
		}
		f := entryFields{e.Place(), e.Birth(), e.Change(), map[int]uint32{}}
		for b := range s.Blocks() {
			if e.Written(b) {
				f.Blocks[b] = e.CRC(b)
			}
		}
		m[i] = f
	}
	return m
}

func TestFormatsAreTheGoldenImages(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			image := golden(t, f.name)
			page := bytes.Repeat([]byte{0xFF}, PageBytes)
			crc := f.encode(page, f.want)
			for i := range page {
				if page[i] != image[i] {
					t.Fatalf("byte %d is %02x, in the image %02x", i, page[i], image[i])
				}
			}
			got, err := f.decode(image, crc)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, f.want) {
				t.Errorf("the image says\n%+v, want\n%+v", got, f.want)
			}
		})
	}
}

func TestEveryTruncationAndFlippedBitIsFound(t *testing.T) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			page := golden(t, f.name)
			crc := le.Uint32(page[4:])
			for n := range page {
				if _, err := f.decode(page[:n], crc); !isDamage(err) {
					t.Fatalf("cut to %d bytes: %v", n, err)
				}
			}
			for bit := range PageBytes * 8 {
				page[bit/8] ^= 1 << (bit % 8)
				if _, err := f.decode(page, crc); !isDamage(err) {
					t.Fatalf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
				}
				page[bit/8] ^= 1 << (bit % 8)
			}
			if _, err := f.decode(page, crc); err != nil {
				t.Fatalf("in the end: %v", err)
			}
		})
	}
}

func isDamage(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrPoolCorrupt) }

// A page with right checksums and any bytes in it is refused or is what it was: decoding never panics, and what was accepted comes out the
// same when it is written again. The input is written over the image at two places: whole pages are too long for the fuzzer.
func FuzzPages(f *testing.F) {
	var images [][]byte
	for i, x := range formats {
		images = append(images, golden(f, x.name))
		f.Add(uint8(i), uint16(0), []byte{}, uint16(64), []byte{})
		f.Add(uint8(i), uint16(36), []byte{1, 0, 0, 0}, uint16(128), bytes.Repeat([]byte{0xFF}, 16))
	}
	page := make([]byte, PageBytes)
	f.Fuzz(func(t *testing.T, which uint8, at uint16, patch []byte, at2 uint16, patch2 []byte) {
		x := formats[int(which)%len(formats)]
		copy(page, images[int(which)%len(formats)])
		copy(page[at%PageBytes:], patch)
		copy(page[at2%PageBytes:], patch2)
		repair(x.name, page)
		got, err := x.decode(page, le.Uint32(page[4:]))
		if err != nil {
			return
		}
		again := make([]byte, PageBytes)
		crc := x.encode(again, got)
		back, err := x.decode(again, crc)
		if err != nil {
			t.Fatalf("%s: %+v was accepted, and not what was made of it: %v", x.name, got, err)
		}
		if s, ok := got.(*Slot); ok {
			s.Minor = VersionMinor
		}
		if !reflect.DeepEqual(got, back) {
			t.Fatalf("%s: %+v came back as %+v", x.name, got, back)
		}
	})
}

// repair makes the checksums of a page right, and what says whose page it is.
func repair(format string, page []byte) {
	if format == "slot" || format == "loghead" {
		le.PutUint32(page[4092:], crcOf(page[:4092]))
		return
	}
	copy(page[40:56], testPool[:])
	le.PutUint32(page[4:], crcOf(page[8:]))
}

func TestRoundTripOfVolumePages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := VolumePage{
			Number: VolumeNumber(rapid.Uint64Min(1).Draw(t, "number")), Position: rapid.Uint64().Draw(t, "position"),
			Name: drawName(t), Bytes: 4096 * rapid.Uint64Max(1<<40).Draw(t, "size"), BlockBytes: rapid.SampledFrom([]uint32{512, 4096}).Draw(t, "block"),
			Flags: VolumeFlags(rapid.Uint32().Draw(t, "flags")), Role: Role(rapid.Uint8Max(uint8(roleEnd)-1).Draw(t, "role")),
			Levels:     rapid.Uint32Max(levelsMax).Draw(t, "levels"),
			Checkpoint: wal.LSN(rapid.Uint64().Draw(t, "checkpoint")), Map: drawRef(t), NextSnapshot: 1,
			Created: rapid.Int64().Draw(t, "created"), ClustersReserved: rapid.Uint64().Draw(t, "reserved"),
			Use: LogUse(rapid.Uint8Max(uint8(logUseEnd)-1).Draw(t, "use")), Loss: Loss(rapid.Uint8Max(uint8(Losses)-1).Draw(t, "loss")),
			LossKnown: wal.LSN(rapid.Uint64().Draw(t, "known")), LossFound: wal.LSN(rapid.Uint64().Draw(t, "found")),
		}
		for range rapid.IntRange(0, LogExtentsMax).Draw(t, "extents") {
			v.Log = append(v.Log, Extent{Place(rapid.Uint64Range(1, pagesMax-1).Draw(t, "place")), rapid.Uint64Range(1, pagesMax).Draw(t, "pages")})
		}
		for i := range rapid.IntRange(0, EpochsMax).Draw(t, "epochs") {
			v.Epochs = append(v.Epochs, EpochStart{wal.Epoch(2*i + 1), wal.LSN(i)})
		}
		page := make([]byte, PageBytes)
		crc := v.EncodeTo(page, testPool)
		var got VolumePage
		if err := got.Decode(page, testPool, v.Position, crc, testPages); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Log, v.Log) && len(v.Log) > 0 || !reflect.DeepEqual(got.Epochs, v.Epochs) && len(v.Epochs) > 0 {
			t.Fatalf("%+v, want %+v", got, v)
		}
		got.Log, got.Epochs = v.Log, v.Epochs
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("%+v, want %+v", got, v)
		}
	})
}

func drawName(t *rapid.T) Name {
	n, err := MakeName(rapid.StringMatching(`[a-zé0-9]{1,32}`).Draw(t, "name"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func drawRef(t *rapid.T) Ref {
	return Ref{Place(rapid.Uint64Max(testPages-1).Draw(t, "place")), rapid.Uint32().Draw(t, "CRC")}
}

func TestRoundTripOfLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := ShapeOf(rapid.Uint32Range(ClusterShiftMin, ClusterShiftMax).Draw(t, "shift"))
		page := make([]byte, PageBytes)
		want := map[int]entryFields{}
		for i := range s.Entries() {
			f := entryFields{Change: wal.LSN(rapid.Uint64Max(1<<60).Draw(t, "change")), Blocks: map[int]uint32{}}
			if f.Change == 0 {
				continue
			}
			if rapid.Bool().Draw(t, "placed") {
				f.Place = Place(rapid.Uint64Range(1, testPages>>s.shift-1).Draw(t, "cluster") << s.shift)
				f.Birth = wal.LSN(rapid.Uint64Range(1, uint64(f.Change)).Draw(t, "birth"))
				for range rapid.IntRange(0, 5).Draw(t, "blocks") {
					f.Blocks[rapid.IntRange(0, s.Blocks()-1).Draw(t, "block")] = rapid.Uint32().Draw(t, "CRC")
				}
			}
			f.set(s.Entry(page, i))
			if n := s.Entry(page, i).WrittenBlocks(); n != len(f.Blocks) {
				t.Fatalf("%d blocks are written, want %d", n, len(f.Blocks))
			}
			want[i] = f
		}
		crc := s.SealLeaf(page, Header{Pool: testPool, Volume: 3, Index: 5, Stamp: 77})
		h, err := s.OpenLeaf(page, &Want{Kind: KindLeaf, Pool: testPool, Volume: 3, Index: 5, CRC: crc, Pages: testPages})
		if err != nil || int(h.Entries) != len(want) {
			t.Fatal(h, err)
		}
		if got := leafFields(s, page); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// TestCodecsAllocateNothing: those that stand on the way of a checkpoint or a page-in.
func TestCodecsAllocateNothing(t *testing.T) {
	page := make([]byte, PageBytes)
	slot := *formats[0].want.(*Slot)
	v := *formats[1].want.(*VolumePage)
	s := ShapeOf(4)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"slot", func() {
			slot.EncodeTo(page)
			must(slot.Decode(page, 1))
		}},
		{"volume page", func() {
			crc := v.EncodeTo(page, testPool)
			must(v.Decode(page, testPool, 300, crc, testPages))
		}},
		{"leaf", func() {
			clear(page)
			e := s.Entry(page, 3)
			e.SetPlace(160, 5)
			e.SetChange(6)
			e.SetBlock(2, 1)
			crc := s.SealLeaf(page, Header{Pool: testPool, Volume: 3, Index: 5, Stamp: 77})
			_, err := s.OpenLeaf(page, &Want{Kind: KindLeaf, Pool: testPool, Volume: 3, Index: 5, CRC: crc, Pages: testPages})
			must(err)
			s.Entry(page, 4).CopyFrom(e)
			e.Trim(7)
		}},
		{"index page", func() {
			clear(page)
			SetRef(page, 7, Ref{100, 1})
			crc := SealRefs(page, Header{Kind: KindIndex, Level: 1, Pool: testPool, Volume: 3, Index: 2, Stamp: 77})
			_, err := OpenRefs(page, &Want{Kind: KindIndex, Level: 1, Pool: testPool, Volume: 3, Index: 2, CRC: crc, Pages: testPages})
			must(err)
		}},
		{"bitmap side", func() {
			encodeBitmap(page, nil, testPool, 1, 42)
			_, _, err := checkBitmap(page, testPool, 1)
			must(err)
		}},
	} {
		if n := testing.AllocsPerRun(100, c.f); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
