#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_report.sh DIR KVM-VMM GUEST-BENCH IMAGE: the log reader of make bench-kvm on a log of known
# contents, and what the programs beside it say when they are used wrongly. Needs no machine. Prints TAP.
set -u
dir=$1 vmm=$2 bench=$3 image=$4
count=0 bad=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() { # name, command...
	local name=$1
	shift
	count=$((count + 1))
	if "$@" >"$work/said" 2>&1; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		sed 's/^/# /' "$work/said"
		bad=1
	fi
}

cat >"$work/log" <<'END'
info compiler cc 1.0
info progress 1/2
clock insns
system umbra
[    0.1] noise of a kernel
info kernel 6.1 #1
row fork 300.0 290.0 310.0
exits fork 1.500 2.000 0.000 0.000 0.100 0.000 0.400
host drop_range 1000 100
host drop_range 3000 100
host drop_range 2000 100
end
info host_kernel 6.1 #1
system kvm_npt1
row fork 250.0 1.0 2.0
row cpu 100.0 100.0 100.0
system kvm_npt0
row fork 900.0 1.0 2.0
host drop_range 79 1
host log_collect 5120 512
host merge 77 0
info error this host cannot: collapse
end of systems
clock us 2000000000
system umbra
row fork 3000.0 1.0 2.0
END

has() { # jq condition on the report
	jq -e "$1" "$work/json"
}

check "a log is read" jq -R -n -f "$dir/report.jq" "$work/log"
jq -R -n -f "$dir/report.jq" "$work/log" >"$work/json"
check "environment" has '.environment == {compiler: "cc 1.0", guest_kernel: "6.1 #1", host_kernel: "6.1 #1"}'
check "exits" has '.exits.insns.fork | .pf == 1.5 and .cr == 2 and .other == 0.4'
check "a guest row" has '.rows[] | select(.op == "fork" and .unit == "insns") |
	.umbra == 300 and .kvm_npt0 == 900 and .kvm_npt1 == 250 and .of_npt1 == 1.2 and .meets'
check "a host row is the median of its rounds, an spte" has '.rows[] | select(.op == "drop_range") |
	.umbra == 20 and .kvm_npt0 == 79 and .kvm_npt1 == null and .meets == false'
check "a row without umbra" has '.rows[] | select(.op == "cpu") | .umbra == null and .meets == null'
check "a row of memory has no aim" has '.rows[] | select(.op == "log_collect") |
	.kvm_npt0 == 10 and .umbra == null and .meets == null and .kind == "memory"'
check "what a host cannot is no row" has '[.rows[] | select(.op == "collapse" or .op == "merge")] == []'
check "ticks become microseconds" has '.rows[] | select(.unit == "us") | .umbra == 1.5 and .kvm_npt0 == null'
jq -r -f "$dir/table.jq" "$work/json" >"$work/table"
check "a table marks the lowest" grep -q \
	'| fork + exit + wait | 300 | 900 | 250 \* | 0.33 | 1.2 | met |' "$work/table"
check "rows of memory have a table of their own" grep -q '^Instructions, what a host does' "$work/table"

"$vmm" >/dev/null 2>&1
check "kvm-vmm wants arguments" test $? -eq 2
"$bench" >/dev/null 2>&1
check "guest-bench is an init" test $? -eq 2
hz=$("$bench" tsc-hz)
check "guest-bench tells the TSC's rate" test "$hz" -gt 1000000
check "the bare-metal guest is a bzImage" test "$(dd if="$image" bs=1 skip=514 count=4 2>/dev/null)" = HdrS
echo "1..$count"
exit $bad
