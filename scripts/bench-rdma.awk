# scripts/bench-rdma.awk: the tables of scripts/bench-rdma, from what benchmarks of Go print.

/^Benchmark/ {
	name = $1
	sub(/-[0-9]+$/, "", name)
	for (i = 3; i < NF; i += 2) {
		k = name SUBSEP $(i + 1)
		n = ++count[k]
		for (; n > 1 && value[k, n - 1] > $i + 0; n--) value[k, n] = value[k, n - 1]
		value[k, n] = $i + 0
	}
}

function median(name, unit) { return value[name, unit, int((count[name, unit] + 1) / 2)] }

# with gives a median and the range.
function with(name, unit, form,    k) {
	if (!count[name, unit]) return "not taken"
	return sprintf(form " (" form "–" form ")", median(name, unit), value[name, unit, 1], value[name, unit, count[name, unit]])
}

function command(kind, batch) { return "BenchmarkRDMA/" kind ",batch=" batch }

END {
	split("read write", kinds)
	split("1 8 32", batches)
	split("initiator target", ends)
	prefix["initiator"] = "host-"
	prefix["target"] = "target-"

	print "Of the card, for each command. Crossings are calls into its driver, of which polls that find nothing are left out: a reactor that spins makes as many as it has"
	print "time for. Doorbells are chains of work requests of one queue pair, and of receives. Allocations are those of a turn.\n"
	print "| command | at once | end | work requests | receives | completions | polls | crossings | doorbells | allocations |"
	print "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
	for (i = 1; i <= 2; i++) for (j = 1; j <= 3; j++) for (e = 1; e <= 2; e++) {
		c = command(kinds[i], batches[j])
		p = prefix[ends[e]]
		printf "| %s | %d | %s | %.2f | %.2f | %.2f | %.3f | %.3f | %.3f | %d |\n", kinds[i], batches[j], ends[e], median(c, p "posts/command"),
			median(c, p "receives/command"), median(c, p "completions/command"), median(c, p "polls/command"), median(c, p "crossings/command"),
			median(c, p "doorbells/command"), median(c, "allocs/turn")
	}

	print "\nInstructions for each command, and the lower and the higher of two counts. The initiator's are from the request to its end, the target's from the card's completion to"
	print "its device and back to the card, each with what package rdma and the runtime do for it; the reactor's are its turns, which both share. The fabric's are not counted.\n"
	print "| command | at once | initiator | target | reactor |"
	print "| --- | ---: | ---: | ---: | ---: |"
	for (i = 1; i <= 2; i++) for (j = 1; j <= 3; j++) {
		c = "BenchmarkRDMAInstructions/" kinds[i] ",batch=" batches[j]
		printf "| %s | %d | %s | %s | %s |\n", kinds[i], batches[j], with(c, "initiator-insn/command", "%.0f"), with(c, "target-insn/command", "%.0f"),
			with(c, "reactor-insn/command", "%.0f")
	}

	if (timed == 0) exit
	print "\nNanoseconds for each command, there and back: both ends, the reactor and the fabric. The fabric alone carries the same messages for nobody."
	print "What a command costs the two ends and their reactor is the difference.\n"
	print "| command | at once | both ends and the fabric | the fabric alone |"
	print "| --- | ---: | ---: | ---: |"
	for (i = 1; i <= 2; i++) for (j = 1; j <= 3; j++)
		printf "| %s | %d | %s | %s |\n", kinds[i], batches[j], with(command(kinds[i], batches[j]), "ns/command", "%.0f"),
			with("BenchmarkPath/" (kinds[i] == "read" ? "write-4k" : "in-capsule-4k") "/batch=" batches[j], "ns/request", "%.0f")

	print "\nNanoseconds for each work request, from Go through the shim into a driver that does next to nothing, and back (rdma/ibverbs): a crossing, shared by as many.\n"
	print "| at once | post | post a receive | poll |"
	print "| ---: | ---: | ---: | ---: |"
	for (j = 1; j <= 3; j++)
		printf "| %d | %s | %s | %s |\n", batches[j], with("BenchmarkPost/" batches[j], "ns/wr", "%.1f"), with("BenchmarkPostRecv/" batches[j], "ns/wr", "%.1f"),
			with("BenchmarkPoll/" batches[j], "ns/wr", "%.1f")
}
