package invariant

import "testing"

func TestCheckStopsOnFalseAndOnlyThen(t *testing.T) {
	Check(true, "invariant: holds")
	defer func() {
		if got := recover(); got != "invariant broken: invariant: does not hold" {
			t.Fatalf("recovered %v", got)
		}
	}()
	Check(false, "invariant: does not hold")
	t.Fatal("a broken invariant returned")
}
