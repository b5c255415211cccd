#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_operations.sh UMBRA GUESTS: what a host does to a running guest's memory, by umbra ctl, while
# all of it is recorded; the recording replays without a finding.
set -u
umbra=$1 guests=$2
. "$(dirname "$0")/../tap.sh"

start() {
	"$umbra" run --batch --control "$sock" --kernel "$guests/endless.elf" --memory 64M \
		--record "$work/all.utr" --timeout 300 "$@" >"$work/run.log" 2>&1 &
	run=$!
	for _ in $(seq 300); do
		sleep 0.1
		[ "$(ctl_json stats 2>/dev/null | jq .mmu.faults)" -gt 100 ] 2>/dev/null &&
			return
	done
	cat "$work/run.log"
	return 1
}

# The guest goes on: it faults in what was taken away.
goes_on() {
	local before
	before=$(ctl_json stats | jq .mmu.faults)
	for _ in $(seq 100); do
		sleep 0.1
		says ".mmu.faults > $before + 10" stats >/dev/null && return
	done
	return 1
}

# refused STATUS WORDS VERB...: what was given and the way out are named.
refused() {
	local status=$1 words=$2
	shift 2
	fails "$status" "^umbra: $1: .*$words" ctl "$@"
}

# Empty, beyond the last gfn, wrapped around; or without a page of memory in it.
unranged() {
	local verb
	for verb in drop protect split; do
		refused 2 'GFN ffffffffffffffff, PAGES 2: out of range; .* below 10000000' $verb ffffffffffffffff 2 &&
			refused 2 'PAGES 0: out of range; give 1 page' $verb 100 0 &&
			refused 2 'out of range' $verb 100 18446744073709551615 &&
			refused 2 'out of range' $verb ffffff0 17 &&
			refused 30 '16 pages from gfn ffffff0 on: none of them is memory .* slots' \
				$verb ffffff0 16 || return 1
	done
}

# A gfn may lie beyond any rate; and flags have no more bits than are looked at.
too_much() {
	local verb
	for verb in storm merge compact; do
		ctl $verb 1000000 && ctl $verb 0 &&
			refused 2 'RATE 1000001: out of range; give 0 to 1000000' $verb 1000001 || return 1
	done
	for verb in migrate reclaim; do
		refused 2 'PAGES 65537: out of range; give 0 to 65536' $verb 65537 || return 1
	done
	refused 30 'no swap file; umbra run --swap' reclaim 1 &&
		refused 2 'PAGES 53: out of range; give 54 to 16384, or 0' quota 53 &&
		refused 2 'PAGES 16385: out of range' quota 16385 &&
		ctl record-end && ctl record "$work/refused.utr" && # refused, it is forgotten
		ctl record-end && ctl record "$work/all.utr" && ctl quota 0 &&
		refused 2 'FLAGS 2: out of range' slot-flags 2 2 &&
		refused 2 'FLAGS 4294967296: out of range' slot-flags 2 4294967296 &&
		says '.[2].read_only == 0' slots
}

# Nothing is written to what is only read: the guest's writes are lost, its stack's, too.
flags() {
	ctl slot-flags 2 1 && says '.[2].read_only == 1' slots && ctl slot-flags 2 0 &&
		says '.[2].read_only == 0' slots
}

away() {
	ctl slot-delete 2 && says '.[2].present == 0' slots &&
		refused 30 'no slot 2 is there; .*slots.* slot-add' slot-delete 2 && ctl slot-add 2 &&
		says '.[2].present == 1' slots &&
		refused 30 'slot 2 is there already; slot-delete' slot-add 2 &&
		refused 30 'no slot has the id 5; .*slots' slot-add 5
}

looked() {
	for _ in $(seq 50); do
		sleep 0.1
		says '.merge.scanned > 1000' stats >/dev/null && return
	done
	return 1
}

# By D bits it tells the same, of pages that go on being written without a fault.
logged_by_d() {
	ctl log-start dirty-bits && sleep 0.3 && says '.written > 0' log-collect && sleep 0.3 &&
		says '.written > 0' log-collect && ctl drop 100 4000 && ctl migrate 50 &&
		says '.written > 0' log-collect && ctl log-stop &&
		ctl log-start dirty-bits,split && ctl log-stop &&
		says '.written > 0' dirty-rate 1 dirty-bits &&
		fails 2 'no way to log writes' ctl log-start dirtybits &&
		fails 2 'no way to log writes' ctl log-start dirty-bits, &&
		fails 2 'no way to log writes' ctl dirty-rate 1 '' &&
		fails 2 'HOW' ctl log-start protect split
}

# A log ends with its slot, and says so.
unlogged() {
	ctl log-start && ctl slot-renew 0 && refused 30 'came back after the log began' log-collect &&
		ctl log-stop && refused 30 'no log is on; log-start' log-collect
}

logged() {
	ctl log-start && refused 30 'a log is on already; log-stop' log-start &&
		refused 30 'a log is on already; log-stop' dirty-rate 1 && sleep 0.3 &&
		says '.written > 0' log-collect && ctl log-stop &&
		refused 30 'no log is on; log-start' log-stop
}

# Who touches the pages that hold the program: it does, running in them.
watched() {
	local gfn
	for gfn in $(seq 256 271); do
		ctl watch "$(printf %x "$gfn")" rx || return 1
	done
	ctl slot-renew 0 || return 1 # the watches stay
	fails 2 'some of r, w and x' ctl watch 100 q && refused 30 'gfn fffffff is no memory .*slots' watch fffffff r || return 1
	for _ in $(seq 50); do
		sleep 0.1
		says 'map(.fetches) | add > 2' watches >/dev/null && break
	done
	says 'length == 16 and (map(.fetches) | add > 2)' watches &&
		says 'def hex: reduce explode[] as $c (0; . * 16 + if $c > 57 then $c - 87 else $c - 48 end);
			[.[] | select(.kinds >= 4)] | length > 2 and all(.[]; .rip == .gva and
			.gfn == (.rip[:-3] | hex))' touches &&
		ctl unwatch 100 && says 'length == 15' watches && refused 30 'gfn 100 is not watched; .*watches' unwatch 100 &&
		ctl unwatch-all && says '. == []' watches
}

# As many as can be, and one more.
too_many() {
	local i
	for i in $(seq 512 575); do
		ctl watch "$(printf %x "$i")" w || return 1
	done
	refused 16 '64 pages are watched, .* unwatch' watch 100 w && ctl watch 200 rw && ctl unwatch 23f &&
		ctl watch 100 w && ctl unwatch-all
}

# One command waits for the other; what was begun for somebody who went away ends.
amid() {
	ctl working-set 2 >"$work/used" &
	local first=$!
	sleep 0.3
	ctl drop 100 1000 && wait $first && grep -q '^used' "$work/used" || return 1
	timeout 0.5 "$umbra" ctl "$sock" dirty-rate 600
	timeout 30 "$umbra" ctl "$sock" log-start && ctl log-stop
}

# Whatever umbra was doing when it was killed, the next one starts as if nothing had been.
killed() { # VERB...
	ctl "$@" >"$work/out" 2>&1 &
	local client=$!
	sleep 0.2
	kill -9 "$run"
	wait "$run" 2>/dev/null
	wait $client
	start && says '.violations == 0' audit
}

stop() {
	ctl stop || return 1
	wait "$run"
	[ $? -eq 22 ]
}

replay() {
	"$umbra" replay --tlb --audit 20 --json "$work/a" "$work/all.utr" &&
		[ "$(jq .violations "$work/a")" = 0 ] && [ "$(jq .events "$work/a")" -gt 50 ]
}

all() { # ARGUMENT...
	check "a machine $*" start "$@"
	check 'drop' says '.sptes > 0 and .accessed == 1' drop 100 1000
	check 'goes on after drop' goes_on
	check 'ranges that are none' unranged
	check 'protect' says '.sptes > 0' protect 100 1000
	check 'split' says '.sptes >= 0' split 0 4000
	check 'migrate' says '.moved > 0' migrate 50
	check 'more than can be' too_much
	check 'storm' ctl storm 200
	check 'merge' says '.saved_pages == .sharers - .shared_frames' merge 100000
	check 'pages are looked at' looked
	check 'merge no more' ctl merge 0
	check 'compact' says '.blocks_built >= 0 and .broken <= .collapsed' compact 100000
	check 'goes on, compacted' goes_on
	check 'zap' ctl zap
	check 'quota' ctl quota 60
	check 'working set' says '.used > 0 and .used <= .resident and .resident <= .pages' working-set 1
	check 'dirty rate' says '.written > 0 and .seconds == 1' dirty-rate 1
	check 'no such time' fails 2 'seconds' ctl dirty-rate 0
	check 'a log' logged
	check 'a log by D bits' logged_by_d
	check 'a log whose slot went' unlogged
	check 'slots' says 'length >= 3 and .[0].gfn == 256 and .[0].present == 1' slots
	check 'a slot in use is renewed' ctl slot-renew 0
	check 'goes on in it' goes_on
	check 'a slot goes and comes back' away
	check 'a slot is read-only for a while' flags
	check 'no such slot' refused 30 'no slot 77 is there; .*slots' slot-renew 77
	check 'no number' fails 2 '"many" is no such number; a GFN' ctl storm many
	check 'watches' watched
	check 'too many watches' too_many
	check 'audit' says '.violations == 0' audit
	check 'stop' stop
	check 'the recording replays' replay
}

# asks WORD ARGUMENT...: the guest that asks for operations on itself, by the control ports.
asks() {
	local word=$1
	shift
	"$umbra" run --batch --kernel "$guests/asks.elf" --memory 64M --append "$word" --timeout 100 "$@" \
		>"$work/run.log" 2>&1 </dev/null || { cat "$work/run.log"; return 1; }
	grep -aq 'guest: asked' "$work/run.log"
}

# turns WORDS: the guest has said so.
turns() {
	for _ in $(seq 100); do
		grep -aqs "guest: $1" "$work/run.log" && return
		sleep 0.1
	done
	cat "$work/run.log"
	return 1
}

# While somebody outside watches or logs, it may not take that away.
outside() {
	asks outside --control "$sock" &
	local guest=$!
	turns 'allowed, turn 0' && ctl watch 2000 rwx && turns 'refused, turn 1' && says 'length == 1' watches &&
		ctl unwatch-all && turns 'allowed, turn 2' && ctl log-start && turns 'refused, turn 3' &&
		ctl log-collect && ctl log-stop && wait $guest
}

all
all --paging nested
check 'a machine to be killed' start
check 'one command amid another' amid
for verb in 'dirty-rate 5' 'working-set 5' 'migrate 60000' 'zap' 'slot-renew 0' 'storm 100000' 'merge 1000000' \
	'compact 1000000' 'watch 100 rwx' 'log-start' 'split 0 100000'; do
	# shellcheck disable=SC2086
	check "killed during $verb" killed $verb
done
check 'stop' stop
run=
check 'a guest alone operates on itself, and on nothing else' asks alone
check 'the same with nested paging' asks alone --paging nested
check 'not where there is another guest, which has its time' asks several --guests 2
check 'nor where somebody outside is at it' outside
finish
