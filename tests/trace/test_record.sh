#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_record.sh UMBRA GUESTS: record guests, replay them with audits; what is damaged is told.
set -u
umbra=$1 guests=$2
. "$(dirname "$0")/../tap.sh"

# record GUEST ARGS...
record() {
	local guest=$1
	shift
	"$umbra" run --batch --exit-code --kernel "$guests/$guest.elf" --memory 64M --timeout 100 \
		--record "$work/$guest.utr" "$@"
	[ $? -eq 1 ]
}

# The same state twice; audits and TLBs are silent; the recorder's counts are ours.
replay() {
	"$umbra" replay --tlb --audit "$2" --json "$work/a" "$work/$1.utr" &&
		"$umbra" replay --quiet --json "$work/b" "$work/$1.utr" &&
		[ "$(jq -r .state "$work/a")" = "$(jq -r .state "$work/b")" ] &&
		[ "$(jq .violations "$work/a")" = 0 ] && [ "$(jq .events "$work/a")" -gt 100 ]
}

cut_replay() {
	head -c "$(($(stat -c %s "$work/tables.utr") * 2 / 3))" "$work/tables.utr" >"$work/cut.utr"
	fails 37 'offset' "$umbra" replay "$work/cut.utr"
}

# The recorder is killed in the middle: what it wrote is a trace, up to there.
killed() {
	"$umbra" run --batch --kernel "$guests/storm.elf" --memory 64M --record "$work/killed.utr" \
		>/dev/null 2>&1 &
	local pid=$!
	for _ in $(seq 100); do
		sleep 0.1
		[ "$(stat -c %s "$work/killed.utr" 2>/dev/null || echo 0)" -gt 2000 ] && break
	done
	kill -9 $pid
	wait $pid 2>/dev/null
	fails 37 'its recording was stopped\|ends in the middle' "$umbra" replay "$work/killed.utr"
}

check 'a guest that moves its tables is recorded' record tables --storm 100
check 'and replayed, with audits' replay tables 10
check 'aliases, with a small quota, are recorded' record aliases --storm 1000 --quota 64
check 'and replayed, with audits' replay aliases 500
check 'pages that are merged are recorded' record merged --storm 500 --merge 200000
check 'and replayed, with audits' replay merged 500
check 'memory that is collapsed is recorded' record collapsed --storm 20 --compact 200000
check 'and replayed, with audits' replay collapsed 500
check 'nested paging is recorded' record tables --storm 100 --paging nested
check 'and replayed' replay tables 1000
check 'a guest whose pages are merged is recorded' record merged --merge 20000 --storm 300
check 'and replayed' replay merged 500
if [ -e "$guests/cold.elf" ]; then
	check 'one that has more memory than the machine, too' record cold --memory 128M --frames 32M \
		--swap "$work/swap" --merge 2000 --storm 100
	check 'and replayed' replay cold 20000
fi
check 'other settings' "$umbra" replay --config prefetch=0,quota=64 "$work/tables.utr"
check 'up to an event' "$umbra" replay --until 500 --audit 100 "$work/tables.utr"
check 'no such setting' fails 2 'no setting' "$umbra" replay --config speed=9 "$work/tables.utr"
# Less memory than it takes; a sanitizer takes more before it begins.
bounded() {
	(ulimit -v 12000 && "$umbra" --version) || return 0
	(ulimit -v 12000 && fails 16 'no memory' "$umbra" replay "$work/tables.utr")
}

check 'little memory' bounded
check 'half a trace' cut_replay
# One byte after the other of the header's fields.
changed() { # OFFSET BYTE STATUS WORDS
	cp "$work/tables.utr" "$work/changed.utr"
	printf "\\x$2" | dd of="$work/changed.utr" bs=1 seek="$1" conv=notrunc status=none
	fails "$3" "$4" "$umbra" replay "$work/changed.utr"
}
backwards() {
	printf '\0001ecartu' >"$work/backwards.utr"
	tail -c +9 "$work/tables.utr" >>"$work/backwards.utr"
	fails 35 'other endianness' "$umbra" replay "$work/backwards.utr"
}
: >"$work/empty.utr"
check 'an empty file' fails 33 'an empty file' "$umbra" replay "$work/empty.utr"
check 'another version' changed 8 07 36 'version 7; this umbra reads versions 1 to 2'
check 'the other endianness' backwards
check 'a damaged header' changed 20 ff 38 'damaged header, at offset'
check 'a damaged chunk' changed 400 ff 38 'at offset'
check 'no trace' fails 34 'not a trace' "$umbra" replay "$umbra"
check 'no file' fails 27 'No such file' "$umbra" replay "$work/nobody"
check 'a file that is no trace stays' fails 27 'is not a trace; it stays' \
	"$umbra" run --batch --kernel "$guests/tables.elf" --memory 64M --record "$0"
check 'a recorder that is killed' killed
finish
