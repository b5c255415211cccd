#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_swap.sh UMBRA GUESTS: guests with more memory than the machine, as TAP; what becomes of them when
# the swap file is full, refuses, loses or changes a page; and what a killed machine leaves.
set -u
umbra=$1 guests=$2
. "$(dirname "$0")/../tap.sh"
swap=$work/swap
trap '[ -z "$run" ] || kill -9 "$run" 2>/dev/null; rm -rf "$work"' EXIT

kernel=(--kernel "$guests/cold.elf")
umbra_run() { # in place of the shell that calls
	exec "$umbra" run --batch "${kernel[@]}" --memory 128M --frames 32M --storm 50 \
		--stats "$work/stats.json" --timeout 200 "$@" </dev/null >"$work/log" 2>&1
}

# ends STATUS WORDS ARGUMENT...
ends() {
	local status=$1 words=$2 got
	shift 2
	(umbra_run "$@")
	got=$?
	echo "status $got, expected $status; words expected: $words"
	[ $got -eq "$status" ] && grep -aq -- "$words" "$work/log"
}

# figures EXPRESSION: of the last run's JSON file.
figures() {
	jq .swap "$work/stats.json"
	jq -e "$1" "$work/stats.json" >/dev/null
}

is_void() { [ "$(stat -c %s "$swap")" = 4096 ]; }

# A guest that goes on, and swaps.
start() {
	rm -f "$work/log" "$swap"
	umbra_run --swap "$swap" --control "$sock" --append rounds=1000000 "$@" &
	run=$!
	for _ in $(seq 600); do
		grep -aqs "guest: round 2" "$work/log" && return
		sleep 0.1
	done
	return 1
}

# waits STATUS WORDS: it ends by itself.
waits() {
	local got
	wait "$run"
	got=$?
	run=
	echo "status $got, expected $1; words expected: $2"
	[ $got -eq "$1" ] && grep -aq -- "$2" "$work/log"
}

check "80 MiB in 32 MiB of frames" ends 0 "memory holds" --swap "$swap" --seal
check "its figures" figures '.swap.frames <= 8192 and .swap.out > 10000 and .swap.in > 10000 and
	.swap.zeros > 3000 and .swap.ahead > 0 and .swap.failed == 0 and .swap.slots == 32768 and
	.swap.fault_longest_us >= .swap.fault_mean_us and .swap.fault_mean_us > 0'
check "the file is void" is_void
check "the same with nested paging" ends 0 "memory holds" --swap "$swap" --paging nested
check "two guests, which do not agree who is cold" ends 0 "memory holds" --swap "$swap" \
	--guests 2 --frames 56M --append rounds=1
check "a recording of it" ends 0 "memory holds" --swap "$swap" --record "$work/trace.utr" \
	--append rounds=1
check "replays, and no TLB holds what went" "$umbra" replay --quiet --tlb --audit 20000 "$work/trace.utr"

# --- where there is no room
check "frames run short without a file" ends 16 "with --frames, or a file with --swap"
check "which is said once" test "$(grep -ac "no free frame" "$work/log")" -eq 1
check "with advice that helps" sh -c "! grep -a 'no free frame' '$work/log' | grep -e '--memory' -e '--quota'"
check "a swap file that is too small" ends 16 "swap file is full; give more with --swap" --swap "$swap,16M"
check "which is said once, too" test "$(grep -ac "no free frame" "$work/log")" -eq 1
check "of which all places were used" figures '.swap.used == 4096'
trap '' XFSZ
check "a guest that swaps" start
prlimit --pid "$run" --fsize=8192
check "the host has no room for the file any more" waits 16 "takes no more"
check "which is said once" test "$(grep -ac "pages stay in memory" "$work/log")" -eq 1
trap - XFSZ

# --- what comes back is wrong
check "a guest that swaps" start
dd if=/dev/urandom of="$swap" bs=1M seek=0 count=64 conv=notrunc 2>/dev/null
check "the file was written over: it is stopped" waits 42 "gfn [0-9a-f]*: something else than was written is at offset [0-9]* of the swap file, $swap"
check "the report says so" figures '.guest.exit == "swap"'
check "a guest that swaps" start
truncate -s 4096 "$swap"
check "the file was cut: it is stopped" waits 42 "gfn [0-9a-f]*: cannot be read at offset [0-9]* of the swap file, $swap"

# --- commands, and the machine is killed
reclaim() {
	local before after
	before=$(ctl_json swap | jq '.out + .zeros') || return 1
	ctl_json reclaim 500 | jq -e '.freed == 500 and .free >= 500' || return 1
	after=$(ctl_json swap | jq '.out + .zeros') || return 1
	echo "$before $after"
	[ $((after - before)) -ge 500 ]
}
whole() { [ "$(ctl_json audit | jq .violations)" = 0 ]; }
killed() {
	kill -9 "$run"
	wait "$run" 2>/dev/null
	run=
	[ "$(stat -c %s "$swap")" -gt 1000000 ]
}
check "a guest that swaps" start
check "ctl reclaim" reclaim
check "ctl swap, in words" sh -c "'$umbra' ctl '$sock' swap | grep -q '^mean_us'"
check "an audit" whole
check "umbra is killed, and leaves a full file" killed
check "the next machine begins with an empty one" ends 0 "memory holds" --swap "$swap" --append rounds=1
check "and leaves it so" is_void

# --- Debian's kernel, its page cache and its page tables
kernel=()
check "Debian: more memory than frames" ends 0 "umbra-init: workload ok" --memory 256M --frames 96M \
	--swap "$swap" --append "umbra.children=4 umbra.mib=1 umbra.passes=1 umbra.migrations=0 umbra.zaps=1 umbra.fill=100"
check "its figures" figures '.mmu.audit_violations == 0 and .swap.in > 10000 and .guest.workload == "ok"'

finish
