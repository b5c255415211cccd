#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_shrink.sh UMBRA BUILD: three cores that are broken on purpose are caught by replaying a recorded
# guest, and `umbra shrink` cuts its trace to a few events that only they stumble over; and what the
# command promises besides.
set -u
umbra=$(realpath "$1") build=$(realpath "$2")
. "$(dirname "$0")/../tap.sh"
cd "$(dirname "$0")" || exit 1
fixture=$PWD/../trace/fixtures/tables.utr

# is_violation UMBRA TRACE
is_violation() {
	fails 18 'after event' "$1" replay --quiet --tlb --audit 1 "$2"
}

shrinks() { # NAME
	"$work/$1" shrink --output "$work/$1.utr" --json "$work/$1.json" "$fixture" &&
		[ "$(jq .events "$work/$1.json")" -le 50 ] && [ "$(jq .complete "$work/$1.json")" = true ]
}

for name in remove-dropped flush-missed key-wrong; do
	check "a core with $name" ./broken-umbra "$build" "replay-$name" "$work/$name"
	check "$name: caught by replay" is_violation "$work/$name" "$fixture"
	check "$name: cut to 50 events or less" shrinks "$name"
	check "$name: what is left is a violation there" is_violation "$work/$name" "$work/$name.utr"
	check "$name: and none here" "$umbra" replay --quiet --tlb --audit 1 "$work/$name.utr"
	check "$name: so is the one that is kept" is_violation "$work/$name" "$name.utr"
done

# A fault of rights: no invariant is broken, but the oracle beside the TLB sees where it leads.
oracle() {
	./broken-umbra "$build" walk-smep-forgotten "$work/smep" &&
		"$work/smep" replay --quiet --audit 1 smep-forgotten.utr &&
		fails 18 'by the guest.s tables it is not' "$work/smep" replay --quiet --tlb \
			smep-forgotten.utr
}
check 'what only the oracle sees' oracle

# ---- other properties

# Of 30 events; a recorder that was stopped is as good.
small() {
	"$umbra" shrink --quiet --output "$work/small.utr" --json "$work/small.json" --property \
		'[ "$('"$umbra"' replay --loose "$1" | sed -n "s/^ *remap *//p")" -ge 3 ]' "$fixture" &&
		[ "$(jq .events "$work/small.json")" -eq 3 ] &&
		[ "$(jq .inputs "$work/small.json")" -eq 0 ]
}

nothing_left() {
	[ -z "$(find "$work" -name "$1*")" ]
}

absent() {
	fails 31 'finds nothing wrong' "$umbra" shrink --output "$work/absent.utr" "$fixture" &&
		fails 31 'does not have the property' "$umbra" shrink --property 'exit 3' \
			--output "$work/absent.utr" "$fixture" &&
		nothing_left absent
}

# Every candidate has the property, and takes its time.
stopped() {
	local pid status
	"$umbra" shrink --quiet --property 'sleep 0.2' --output "$work/stopped.utr" "$fixture" &
	pid=$!
	sleep 1
	kill -TERM $pid
	wait $pid
	status=$?
	[ $status -eq 143 ] && "$umbra" replay "$work/stopped.utr" && [ "$(
		find "$work" -name 'stopped*' | wc -l)" -eq 1 ]
}

stopped_early() {
	local pid
	"$umbra" shrink --quiet --property 'sleep 30' --output "$work/early.utr" "$fixture" &
	pid=$!
	sleep 0.5
	kill -INT $pid
	wait $pid
	[ $? -eq 130 ] && nothing_left early
}

no_command() {
	fails 2 'cannot run' "$umbra" shrink --property '/nowhere/at/all "$1"' --output "$work/bad.utr" \
		"$fixture" &&
		fails 1 'signal 9' "$umbra" shrink --property 'kill -9 $$' --output "$work/bad.utr" \
			"$fixture" && nothing_left bad
}

stays() {
	echo text >"$work/text"
	fails 27 'it stays' "$umbra" shrink --output "$work/text" "$fixture" &&
		[ "$(cat "$work/text")" = text ]
}

is_listed() {
	local trace
	for trace in *.utr; do
		grep -q "'${trace%.utr}'" meson.build || { echo "$trace is not in meson.build"; return 1; }
	done
}

check 'a property of a command' small
check 'a property that is not there' absent
check 'no such command, or killed' no_command
check 'a signal leaves the smallest so far' stopped
check 'and nothing where the property was not seen yet' stopped_early
check 'a file that is no trace stays' stays
check 'no such trace' fails 27 'No such file' "$umbra" shrink "$work/nobody.utr"
check 'no trace' fails 34 'not a trace' "$umbra" shrink --output "$work/o.utr" "$umbra"
check 'usage' fails 2 'give one trace' "$umbra" shrink
check 'each regression has its test' is_listed
finish
