#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_guests.sh UMBRA DIR [case...]: boot the test guests in DIR on the real hypervisor, as TAP. Each
# must end as it was written to, with the exit status of umbra(1). The case "workload" boots
# Debian's kernel with a smaller workload.
set -u
umbra=$1 dir=$2
shift 2
cases=${*:-poweroff halt triple_fault hang reboot unmapped paging_off task_switch debug_registers
	prefixes crossing x2apic own_table}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0 bad=0

# boot NAME STATUS EXIT OUTPUT ARGUMENT...: exit status, guest.exit of the JSON file, a line of output.
boot() {
	local name=$1 want=$2 exit=$3 output=$4 got
	shift 4
	count=$((count + 1))
	timeout 600 "$umbra" run --batch --stats "$work/stats.json" "$@" >"$work/out" 2>"$work/err" \
		</dev/null
	got=$?
	if [ $got -eq "$want" ] && grep -q -- "$output" "$work/out" &&
		[ "$(jq -r .guest.exit "$work/stats.json")" = "$exit" ]; then
		echo "ok $count - $name"
		return 0
	fi
	echo "not ok $count - $name"
	echo "# status $got, expected $want; output:"
	tail -n 60 "$work/out" "$work/err" | sed 's/^/# /'
	bad=1
	return 1
}

tiny() { # name, status, exit, output
	local name=$1 want=$2 exit=$3 output=$4
	shift 4
	boot "$name" "$want" "$exit" "$output" --kernel "$dir/$name.bzimage" --no-initrd --memory 64M \
		--storm 0 "$@"
}

# The figures that a run of the workload must show, whatever its size: at least as many.
workload() {
	local children=32 migrations=1500
	boot workload 0 poweroff "umbra-init: workload ok" --memory 512M --timeout 500 --append \
		"umbra.children=$children umbra.mib=2 umbra.migrations=$migrations" || return
	count=$((count + 1))
	if jq -e --argjson children "$children" --argjson migrations "$migrations" \
		'.guest.workload == "ok" and .mmu.audit_violations == 0 and .mmu.audits >= 5 and
		.mmu.longest_chain >= $children and .mmu.migrations >= $migrations and
		.drop.gfns >= 1024 and .drop.sptes > .drop.gfns and .guest.boot_seconds > 0' \
		"$work/stats.json" >/dev/null; then
		echo "ok $count - its figures"
	else
		echo "not ok $count - its figures"
		sed 's/^/# /' "$work/stats.json"
		bad=1
	fi
}

for case in $cases; do
	case $case in
	poweroff) tiny poweroff 0 poweroff "guest: hello" ;;
	halt) tiny halt 0 poweroff "guest: halts" ;;
	triple_fault) tiny triple_fault 12 triple_fault "guest: triple" ;;
	hang) tiny hang 17 timeout "guest: hangs" --timeout 4 ;;
	reboot) tiny reboot 13 reboot "guest: reboots" ;;
	unmapped) tiny unmapped 14 unmapped_write "guest: writes" ;;
	paging_off) tiny paging_off 0 poweroff "guest: paging is off" ;;
	task_switch) tiny task_switch 15 emulation "guest: switches" ;;
	debug_registers) tiny debug_registers 0 poweroff "guest: debug registers hold" ;;
	prefixes) tiny prefixes 0 poweroff "guest: decoded" ;;
	crossing) tiny crossing 15 emulation "guest: stores across" ;;
	x2apic) tiny x2apic 0 poweroff "guest: x2APIC obeys" ;;
	own_table) tiny own_table 15 emulation "guest: writes its root" ;;
	workload) workload ;;
	*) echo "Bail out! no case $case"; exit 1 ;;
	esac
done
echo "1..$count"
exit $bad
