package volume

import (
	"slices"
	"testing"
)

func TestCensusFindsWhatTheBitmapHasWrong(t *testing.T) {
	a := newTestAllocator(t, 4, 100000)
	var places [4]Place
	if a.GrantClusters(places[:], Ordinary) != 4 {
		t.Fatal("no space")
	}
	for _, p := range places[:3] {
		a.Refer(p, 16)
	}
	commitAllocator(a, make([]byte, PageBytes))

	c := a.Census()
	for _, p := range places[:3] {
		if !c.Mark(p, 16) || !c.Marked(p+15) {
			t.Fatalf("place %d was met before", p)
		}
	}
	if list, lost, free := c.Compare(a, nil, 10); len(list) != 0 || lost+free != 0 {
		t.Fatalf("a pool that is as it should be: %v", list)
	}
	for _, m := range []struct {
		what string
		p    Place
		n    uint64
	}{
		{"a place that is mapped twice", places[1] + 15, 1}, {"a slot", 16, 1}, {"the bitmap", 32, 1}, {"a place outside", 100000, 1},
		{"a place far outside", 1<<64 - 1, 2}, {"a run that ends outside", 99999, 2},
	} {
		if c.Mark(m.p, m.n) {
			t.Errorf("%s was taken", m.what)
		}
	}

	c = a.Census()
	c.Mark(places[0], 16)
	c.Mark(places[1]+4, 12) // 4 pages are lost
	c.Mark(places[3], 16)   // granted, not in the root; and the third cluster is lost
	list, lost, free := c.Compare(a, nil, 10)
	want := []Discrepancy{
		{Extent{places[1], 4}, true}, {Extent{places[2], 16}, true}, {Extent{places[3], 16}, false},
	}
	if !slices.Equal(list, want) || lost != 20 || free != 16 {
		t.Errorf("%v, %d lost, %d free; want %v", list, lost, free, want)
	}
	if list, lost, free = c.Compare(a, nil, 1); len(list) != 1 || lost != 20 || free != 16 {
		t.Errorf("cut short: %v, %d, %d", list, lost, free)
	}
}
