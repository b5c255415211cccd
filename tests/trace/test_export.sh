#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_export.sh UMBRA TRACE: a trace as a database and as a timeline, compared with what replaying
# it says.
set -u
umbra=$1 trace=$2
. "$(dirname "$0")/../tap.sh"

sql() { sqlite3 "$work/all.db" "$1"; }

# is QUERY JQ: what the database says is what the replay said.
is() {
	local mine theirs
	mine=$(sql "$1") theirs=$(jq -r "$2" "$work/replay.json")
	echo "$1: $mine, replay: $theirs"
	[ "$mine" = "$theirs" ]
}

events() {
	is 'SELECT count(*) FROM events' .events &&
		is "SELECT count(*) FROM events WHERE kind = 'fault'" .kinds.fault &&
		is "SELECT count(*) FROM events WHERE kind = 'remap'" .kinds.remap &&
		is 'SELECT sum(inputs) + count(*) FROM events' .records &&
		is 'SELECT count(*) FROM words' '.kinds.word4 // 0 + .kinds.word8'
}

# What the MMU holds at the end, in each way of counting.
state() {
	is "SELECT count(*) FROM shadow_pages WHERE event = (SELECT max(event) FROM shadow_pages)" \
		.shadow_pages &&
		is "SELECT count(*) FROM (SELECT DISTINCT shadow_page, entry FROM sptes WHERE event =
			(SELECT max(event) FROM sptes))" .sptes &&
		is "SELECT sptes FROM events WHERE kind = 'end'" .sptes
}

# Each gfn's rows are what umbra rmap says of it.
rmap() {
	local gfn at count
	for at in 1000 7000; do
		sql "SELECT printf('%x', gfn), count(*) FROM sptes WHERE event = $at GROUP BY gfn
			ORDER BY random() LIMIT 5" >"$work/gfns"
		[ -s "$work/gfns" ] || return 1
		while IFS='|' read -r gfn count; do
			echo "at $at, gfn $gfn: $count"
			[ "$("$umbra" rmap --quiet --at $at --json "$trace" "$gfn" | jq length)" = "$count" ] ||
				return 1
		done <"$work/gfns"
	done
}

timeline() {
	"$umbra" export --quiet --every 1000 "$trace" "$work/all.json" || return 1
	jq -e --slurpfile replay "$work/replay.json" '
		.traceEvents as $all |
		($all | map(select(.ph == "i")) | length > 10 and (map(.ts) | . == sort)) and
		($all | map(select(.ph == "X") | [.ts, .dur]) | . as $x |
			length >= 2 and all(range(1; length); $x[.][0] >= $x[. - 1][0] + $x[. - 1][1])) and
		($all | map(select(.name == "remap")) | length == $replay[0].kinds.remap) and
		($all | map(select(.ph == "C" and .name == "sptes")) | last.args.value == $replay[0].sptes) and
		($all | all(.ph | IN("i", "X", "C", "M")))' "$work/all.json"
}

# Nothing half-written, and nothing of others written over.
other_file() {
	echo mine >"$work/mine.db"
	fails 1 'stays as it is' "$umbra" export "$trace" "$work/mine.db" && [ "$(cat "$work/mine.db")" = mine ]
}

cut_trace() {
	head -c 30000 "$trace" >"$work/cut.utr"
	fails 37 'offset' "$umbra" export "$work/cut.utr" "$work/cut.db" &&
		[ "$(find "$work" -name 'cut.*' | wc -l)" = 1 ]
}

full() {
	(ulimit -f 64 && trap '' XFSZ && fails 1 '.' "$umbra" export --quiet "$trace" "$work/full.$1") &&
		[ "$(find "$work" -name 'full.*' | wc -l)" = 0 ]
}

# Stopped behind its last write, it has all: how it then ended does not matter.
whole() {
	[ "$(find "$work" -name 'stopped.*')" = "$work/stopped.db" ] &&
		[ "$(sqlite3 "$work/stopped.db" 'SELECT count(*) FROM events')" = "$(jq .events "$work/replay.json")" ]
}

# Stopped in the middle, again and again: nothing is left but a whole file.
stopped() {
	local after status left
	for after in 0.01 0.05 0.1 0.2; do
		timeout -s INT "$after" "$umbra" export --quiet --words --every 50 "$trace" "$work/stopped.db" \
			>"$work/out" 2>&1
		status=$?
		left=$(find "$work" -name 'stopped.*' | wc -l)
		echo "after $after s: status $status, $left files"
		[ "$left" = 0 ] || whole || return 1
		rm -f "$work/stopped.db"
	done
	"$umbra" export --quiet --words --every 2 "$trace" "$work/stopped.db" >"$work/out" 2>&1 &
	sleep 0.3
	kill -TERM $! 2>/dev/null
	wait $!
	status=$?
	echo "status $status"
	[ $status = 143 ] && [ "$(find "$work" -name 'stopped.*' | wc -l)" = 0 ]
}

"$umbra" replay --quiet --json "$work/replay.json" "$trace" || exit 1
check 'a database' "$umbra" export --words --at 1000 --at 7000 "$trace" "$work/all.db"
check 'has all events' events
check 'has the state' state
check 'says of a gfn what umbra rmap says' rmap
check 'is written anew' "$umbra" export --quiet --until 100 "$trace" "$work/all.db"
check 'up to an event' test "$(sql 'SELECT count(*) FROM events')" = 100
check 'a timeline' timeline
check 'a file that is none of ours stays' other_file
check 'half a trace' cut_trace
check 'no trace' fails 34 'not a trace' "$umbra" export "$0" "$work/none.db"
check 'nowhere' fails 1 'No such file' "$umbra" export "$trace" "$work/no/where.db"
check 'stopped by signals' stopped
check 'a full disk, database' full db
check 'a full disk, timeline' full json
finish
