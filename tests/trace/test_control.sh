#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_control.sh UMBRA GUESTS FULL_DISK: ask a running machine, switch recording on and off, and
# what may go wrong meanwhile; ask a trace the same.
set -u
umbra=$1 guests=$2 full_disk=$3
. "$(dirname "$0")/../tap.sh"

stats() { [ "$(ctl_json stats | jq .mmu.faults)" -gt 100 ]; }

# A guest that runs until it is stopped, and touches its tables meanwhile.
start() {
	"$umbra" run --batch --control "$sock" --storm 300 --kernel "$guests/endless.elf" --memory 64M \
		--timeout 300 "$@" >"$work/run.log" 2>&1 &
	run=$!
	for _ in $(seq 300); do
		sleep 0.1
		stats 2>/dev/null && return
	done
	cat "$work/run.log"
	return 1
}

stop() {
	ctl stop || return 1
	wait "$run"
	[ $? -eq 22 ] && [ ! -e "$sock" ]
}

# Some page of the guest's program, which runs where it lies, is mapped there.
rmap() { # FILE
	local gfn
	for gfn in $(seq 256 300); do
		gfn=$(printf %x "$gfn")
		"$umbra" rmap --quiet "$1" "$gfn" >"$work/rmap" || return 1
		grep -q " ${gfn}000 .* 4K " "$work/rmap" || continue
		[ "$("$umbra" rmap --quiet --json "$1" "0x$gfn" | jq -r '.[].gva' | sort -u | tail -n 1)" = \
			"${gfn}000" ] && return
	done
	cat "$work/rmap"
	return 1
}

# Where the two walks lead is where the spte says.
walk() {
	"$umbra" walk "$sock" 100000 | tee "$work/walk" | grep -q 'guest: gpa 100000' ||
		{ cat "$work/walk"; return 1; }
	[ "$("$umbra" walk --json "$sock" 100000 | jq -r '.shadow | length')" -ge 4 ]
}

record() {
	ctl record "$work/$1.utr" || return 1
	fails 27 'a recording is on' ctl record "$work/other.utr" || return 1
	[ ! -e "$work/other.utr" ] || return 1
	sleep 2
	[ "$(ctl_json record-end)" = '{}' ] && fails 27 'no recording' ctl record-end
}

replay() {
	"$umbra" replay --tlb --audit 20 --json "$work/a" "$work/$1.utr" &&
		[ "$(jq .violations "$work/a")" = 0 ] && [ "$(jq .events "$work/a")" -gt 50 ]
}

# What a host does is in the trace; and a log that is on, another MMU would not know of.
host_operates() {
	ctl record "$work/host.utr" && ctl watch 100 rwx && ctl log-start && sleep 1 &&
		ctl log-collect && ctl working-set 1 && ctl slot-renew 0 && ctl split 100 40 &&
		ctl protect 100 40 && ctl drop 100 40 && ctl migrate 50 && ctl slot-flags 0 0 &&
		ctl record-end && fails 27 'a log of writes is on' ctl record "$work/not.utr" &&
		ctl log-stop && ctl unwatch-all && replay host
}

# Asked of the trace's end: as of the live machine.
ask_trace() {
	rmap "$work/first.utr" &&
		"$umbra" walk "$work/first.utr" 100000 | grep -q 'guest: gpa 100000' &&
		fails 30 'no vcpu 0' "$umbra" walk --at 0 "$work/first.utr" 100000
}

# By somebody else than umbra run, who reads the serial line only.
started_bare() {
	local qemu i
	qemu-system-x86_64 -kernel "$(dirname "$umbra")/../vmm/umbra-vmm.elf" -cpu qemu64,-svm -m 256 \
		-display none -serial "file:$work/serial" &
	qemu=$!
	for i in $(seq 100); do
		sleep 0.1
		grep -q 'umbra: the processor has no SVM' "$work/serial" 2>/dev/null && break
	done
	kill $qemu
	[ "$i" -lt 100 ]
}

# Each of several guests can be asked, recorded and stopped by itself.
several() {
	start --guests 3 || return 1
	ctl_json stats | jq -e '(.guests | length) == 3 and
		.mmu.faults == ([.guests[].mmu.faults] | add) and
		.mmu.longest_chain == ([.guests[].mmu.longest_chain] | max)' &&
		[ "$("$umbra" ctl --json --guest 2 "$sock" stats | jq .mmu.faults)" -gt 10 ] &&
		fails 30 'no such guest; this machine has 3' "$umbra" ctl --guest 3 "$sock" stats &&
		"$umbra" ctl --guest 1 "$sock" record "$work/second.utr" &&
		sleep 1 && ctl record-end && replay second &&
		"$umbra" ctl --guest 1 "$sock" stop && sleep 1 &&
		fails 29 'guest 1 has ended: stopped' "$umbra" ctl --guest 1 "$sock" rmap 100 &&
		fails 29 'guest 1 has ended' "$umbra" rmap --guest 1 "$sock" 100 &&
		ctl stats | grep -q 'guest 1, which has ended' && ctl rmap 100 && stop &&
		grep -q 'guest 0: the machine was told to stop' "$work/run.log"
}

# Nobody can hold the machine up: not a client that says nothing, nor one that goes away.
rude() {
	timeout 1 python3 - "$sock" <<-'PYTHON' || true
		import socket, sys
		for what in (b"", b"text", b"text\0rmap", b"\0" * 9000, b"text\0" + b"x\0" * 40):
		    s = socket.socket(socket.AF_UNIX)
		    s.connect(sys.argv[1])
		    try:
		        s.sendall(what)
		    except OSError:
		        pass
		    s.close()
	PYTHON
	stats
}

# Two of them at the same file.
taken() {
	ctl record "$work/taken.utr" || return 1
	fails 27 'another process is writing it' "$umbra" run --batch --kernel "$guests/tables.elf" \
		--memory 64M --record "$work/taken.utr" || return 1
	# Those who read do not mind, nor does the writer.
	"$umbra" replay --quiet "$work/taken.utr" &
	"$umbra" replay --quiet "$work/taken.utr"
	wait $!
	ctl record-end && "$umbra" replay --quiet "$work/taken.utr"
}

# The disk is full in the middle: the guest does not notice; what was written can be replayed.
full() {
	local status=0
	LD_PRELOAD=$full_disk ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 FULL_DISK=3000 \
		"$umbra" run --batch --kernel "$guests/tables.elf" --memory 64M \
		--record "$work/full.utr" >"$work/out" 2>&1 || status=$?
	cat "$work/out"
	[ $status -eq 32 ] && grep -q 'No space left' "$work/out" &&
		[ "$(stat -c %s "$work/full.utr")" -le 3000 ] &&
		fails 37 'its recording was stopped' "$umbra" replay "$work/full.utr"
}

# A machine that was killed leaves its socket: the next one takes it.
killed() {
	start || return 1
	kill -9 "$run"
	wait "$run" 2>/dev/null
	[ -S "$sock" ] && fails 29 'no machine listens' ctl stats && start && stop
}

check 'a machine with a socket' start
check 'stats' stats
check 'rmap of a running machine' rmap "$sock"
check 'walk of a running machine' walk
check 'no such gfn' fails 30 'no memory' "$umbra" rmap "$sock" fffffff
check 'no such gva' fails 30 'not canonical' "$umbra" walk "$sock" 8000000000000000
check 'no number' fails 2 'hexadecimal' ctl rmap gfn
check 'no such command' fails 2 'no command' ctl dance
check 'too few words' fails 2 'walk GVA: takes 1 argument, and 0 were given' ctl walk
check 'fewer than there may be' fails 2 'dirty-rate SECONDS .HOW.: takes at least 1 argument, and 0 were given' ctl dirty-rate
check 'help for two' fails 2 'takes one command, and 2 were given' "$umbra" ctl help drop zap
check 'too many' fails 2 'zap: takes no argument, and 1 was given' ctl zap 7
check 'an option at the wrong place' fails 2 "--json comes too late; .*ctl --json $sock stats" ctl stats --json
check 'a guest that is no number' fails 2 'give a number, 0 to 0' "$umbra" ctl --guest x "$sock" stats
check 'of a question, too' fails 2 'give a number' "$umbra" rmap --guest x "$sock" 100
check 'a guest that is not there' fails 30 'this machine has 1' "$umbra" ctl --guest 1 "$sock" stats
check 'traces are asked about events' fails 2 'running machine' "$umbra" rmap --at 5 "$sock" 100
check 'another machine there' fails 29 'another machine' "$umbra" run --batch --control "$sock" \
	--kernel "$guests/tables.elf" --memory 64M
check 'a file that is no socket' fails 29 'no socket' "$umbra" run --batch --control "$0" \
	--kernel "$guests/tables.elf" --memory 64M
check 'recording is switched on and off' record first
check 'what was recorded replays' replay first
check 'and again' record second
check 'the second one replays' replay second
check 'what a host does is recorded' host_operates
check 'the trace is asked' ask_trace
check 'an event that it has not' fails 30 'no event' "$umbra" rmap --at 99999999 "$work/first.utr" 100
check 'clients without manners' rude
check 'a trace that is being written' taken
check 'the machine is stopped' stop
check 'a machine with nested paging' start --paging nested
check 'records, too' record nested
check 'which replays' replay nested
check 'it is stopped' stop
check 'several guests, each by itself' several
check 'a full disk' full
check 'a socket of a machine that was killed' killed
check 'a machine that another program starts says how it ends' started_bare
run=
finish
