# The job of a guest that runs scenarios: it reads orders from its console, one a line,
#
#   SCENARIO TARGET PLACE LIMIT ROUNDS      e.g.: connect pollux host 60 0
#
# runs each with its output in $JOB/TARGET-SCENARIO.log, and answers "end STATUS". vm_test.go gives the orders.
here=$(dirname "$0")

# Loaded here, once, so that no scenario pays for it, or meets a message of the loading in its kernel log.
modprobe -a nvme-tcp nvmet-tcp sch_prio sch_netem cls_u32 ext4 xfs loop
modprobe null_blk nr_devices=0

echo ready
while read -r scenario target place limit rounds; do
	[ "$scenario" != quit ] || exit 0
	timeout -k 5 "$limit" bash "$here/lib/run.sh" "$scenario" "$target" "$place" "$rounds" </dev/null >"$JOB/$target-$scenario.log" 2>&1
	echo "end $?"
done
