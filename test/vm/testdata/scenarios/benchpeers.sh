# Pollux and the kernel's target are compared side by side, by the bundled initiator and by fio on this host's kernel, in one table.
# target: guest
# nvmet: no, it is one of the two here
. "$lib/peers.sh"

peers_begin 8 mem

step "pollux bench peers"
peers_compare --rw randwrite --iodepth 4 --runtime 1 --ramp-time 0 --runs 1 --cores 0 --idle interrupt --machine --output json >report.json
jq -r '.rows[] | "         \(.name): \(.summary.iops.median | floor) IOPS, \(.runs[0].machine.rest_us_per_io | floor) µs of the machine for each"' report.json
equal "rows" "$(jq -r '[.rows[].device.target] | join(" ")' report.json)" \
	"pollux@mem nvmet@mem fio+pollux@mem fio+nvmet@mem"
equal "rows without a figure" "$(jq -r '[.rows[] | select((.runs[0].total.iops > 0 and .runs[0].errors == 0 and .runs[0].machine.rest_us_per_io > 0) | not).name] | join(" ")' report.json)" ""
equal "ratios" "$(jq -r '[.ratios[] | select(.iops.pairs == 1 and .iops_per_core.median > 0).name | sub(" randwrite.*"; "")] | join(", ")' report.json)" \
	"pollux@mem / nvmet@mem, fio+pollux@mem / fio+nvmet@mem"

peers_end
