#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_import.sh UMBRA DUMP FIXTURES: what trace-cmd recorded of KVM becomes a trace, with what
# trace-cmd itself read in it; what is damaged is told, and what could be saved is saved.
set -u
umbra=$1 dump=$2 fixture=$3/kvm.dat two=$3/kvm-2cpu.dat # of a host with two processors
. "$(dirname "$0")/../tap.sh"

import() {
	"$umbra" import --timeout 30 --quiet "$@"
}

# counts FILE: every event, by name, as often as trace-cmd read it.
counts() {
	import --json "$work/json" "$1" "$work/kvm.utr" || return 1
	jq -r '.kinds + (.others | with_entries(.key |= sub(".*:"; ""))) | to_entries[]
		| "\(.key) \(.value)"' "$work/json" | LC_ALL=C sort >"$work/counts"
	diff "$1.counts" "$work/counts" && [ "$(jq .whole "$work/json")" = true ]
}

# sptes FILE: and of the sptes what they were. 73 is UMBRA_TRACE_KVM_SPTE.
sptes() {
	import "$1" "$work/kvm.utr" || return 1
	"$dump" "$work/kvm.utr" 73 | while read -r _ _ _ gfn spte rest; do
		printf '%s %s %d %x\n' "$gfn" "$spte" $((0x$rest & 255)) $((0x$rest >> 16 & 0xffffffffffff))
	done | sha256sum >"$work/sptes"
	cat "$work/sptes"
	diff "$1.sptes" "$work/sptes"
}

# The longest chains of sptes, counted again: an spte counts until another takes its place.
longest() {
	import --json "$work/json" "$fixture" "$work/kvm.utr" || return 1
	"$dump" "$work/kvm.utr" 73 | awk '{
		place = substr($6, 1, length($6) - 4)
		if (place == "" || at[place] == $4)
			next
		if (place in at)
			now[at[place]]--
		at[place] = $4
		if (++now[$4] > most[$4])
			most[$4] = now[$4]
	} END { for (gfn in most) print most[gfn] }' | sort -rn | head -5 >"$work/longest"
	jq '.longest[].sptes' "$work/json" | diff "$work/longest" -
}

table() {
	"$umbra" import "$fixture" "$work/kvm.utr" >"$work/table" && cat "$work/table" &&
		grep -q 'sptes set .* level 1: ' "$work/table" &&
		grep -q 'tracepoints cannot tell' "$work/table" &&
		grep -q 'when a single spte goes away' "$work/table"
}

# survives FILE: it is imported, or what is wrong with it is said; what is written can be read.
survives() {
	local status
	rm -f "$work/some.utr"
	import "$1" "$work/some.utr" >"$work/one" 2>&1
	status=$?
	case $status in
	0) ;;
	39 | 40) grep -q "^umbra: $1: " "$work/one" || { echo "status $status, and:"; cat "$work/one"; return 1; } ;;
	*) echo "status $status"; cat "$work/one"; return 1 ;;
	esac
	[ ! -e "$work/some.utr" ] || "$dump" "$work/some.utr" >/dev/null
}

# Cut: told with an offset; never more events than before, and some where there are some.
cut() {
	local size at some=0
	size=$(stat -c %s "$fixture")
	for at in 11 18 36 40 300 2000 14610 14700 15040 15060 16384 16390 24000 24508 24509 100000 200000 \
		300000 337000 342994 342995 343000 343100 $((size - 1)); do
		head -c $at "$fixture" >"$work/cut.dat"
		survives "$work/cut.dat" || { echo "cut at $at"; return 1; }
		grep -q 'end of the file is missing.* offset' "$work/one" ||
			{ echo "cut at $at:"; cat "$work/one"; return 1; }
		[ ! -e "$work/some.utr" ] || some=$(("$("$dump" "$work/some.utr" | wc -l)"))
		case $at in
		24508) [ $some -eq 0 ] ;;
		24509) [ $some -gt 500 ] ;;
		343100) [ $some -eq "$("$dump" "$work/kvm.utr" | wc -l)" ] ;;
		esac || { echo "cut at $at: $some records"; return 1; }
	done
}

# in_order FILE: no time is earlier than the one before.
in_order() {
	"$dump" "$1" | awk '$3 < before { print NR ": " $0; bad = 1 } { before = $3 } END { exit bad || !NR }'
}

# Both processors' events, merged; of a file that is cut too, compressed and not.
processors() {
	local part records
	counts "$two" && sptes "$two" && in_order "$work/kvm.utr" || return 1
	records=$("$dump" "$work/kvm.utr" | wc -l)
	for part in 30 60 90 99; do
		head -c $(($(stat -c %s "$two") * part / 100)) "$two" >"$work/cut.dat"
		survives "$work/cut.dat" && in_order "$work/some.utr" || { echo "cut to $part %"; return 1; }
		[ "$("$dump" "$work/some.utr" | wc -l)" -lt "$records" ] || return 1
	done
}

# A chunk of events that cannot be decompressed: what lies before it is there, and the gap is told.
spoilt() {
	local records
	import "$fixture" "$work/whole.utr" || return 1
	cp "$fixture" "$work/spoilt.dat"
	head -c 100 /dev/zero | dd of="$work/spoilt.dat" bs=1 seek=200000 conv=notrunc status=none
	fails 40 'pages of events cannot be read; what was read before is kept' \
		import "$work/spoilt.dat" "$work/some.utr" || return 1
	records=$("$dump" "$work/some.utr" | wc -l)
	[ "$records" -gt 20000 ] && [ "$records" -lt "$("$dump" "$work/whole.utr" | wc -l)" ] &&
		"$dump" "$work/whole.utr" | head -n 20000 | cmp - <("$dump" "$work/some.utr" | head -n 20000)
}

# flip SEED FIRST LAST: 1 to 4 bits between two offsets.
flip() {
	local at bit byte count
	RANDOM=$1
	cp "$fixture" "$work/flip.dat"
	for count in $(seq $((RANDOM % 4 + 1))); do
		at=$(($2 + (RANDOM << 15 | RANDOM) % ($3 - $2))) bit=$((1 << RANDOM % 8))
		byte=$(od -An -tu1 -j $at -N 1 "$work/flip.dat")
		# shellcheck disable=SC2059
		printf "\\x$(printf %x $((byte ^ bit)))" |
			dd of="$work/flip.dat" bs=1 seek=$at conv=notrunc status=none
	done
}

# flips FROM TO FIRST LAST: seeds
flips() {
	local seed
	for seed in $(seq "$1" "$2"); do
		flip "$seed" "$3" "$4"
		survives "$work/flip.dat" || { echo "seed $seed, offsets $3 to $4"; return 1; }
	done
}

# FILE is there already and is no trace.
stays() {
	echo precious >"$work/precious"
	fails 27 'it stays as it is' import "$fixture" "$work/precious" &&
		[ "$(cat "$work/precious")" = precious ]
}

# A trace that was there is still there when the input is none.
keeps() {
	cp "$work/kvm.utr" "$work/old.utr"
	fails 39 'no trace.dat' import "$umbra" "$work/old.utr" && cmp "$work/kvm.utr" "$work/old.utr"
}

full() {
	(ulimit -f 100; trap '' XFSZ; fails 32 'cannot write the trace' import "$fixture" "$work/full.utr")
}

version() {
	{ printf '\027\010Dtracing9\0'; tail -c +13 "$fixture"; } >"$work/version.dat"
	fails 39 'version.*offset 10' import "$work/version.dat" "$work/no.utr" && [ ! -e "$work/no.utr" ]
}

zeros() {
	head -c 100000 /dev/zero >"$work/zeros"
	fails 39 'no trace.dat' import "$work/zeros" "$work/no.utr" && [ ! -e "$work/no.utr" ]
}

# The other version of the format, if trace-cmd is there to make it.
version6() {
	trace-cmd convert -i "$fixture" -o "$work/6.dat" --file-version 6 >/dev/null 2>&1
	import "$work/6.dat" "$work/6.utr" && cmp "$work/6.utr" "$work/kvm.utr" || return 1
	head -c 5000000 "$work/6.dat" >"$work/6cut.dat"
	[ "$(stat -c %s "$work/6.dat")" -le 5000000 ] ||
		fails 40 'offset 5000000; what was read' import "$work/6cut.dat" "$work/6.utr"
}

# No compression: where one processor's events end and the other's begin is told by their times.
plain() {
	local part
	trace-cmd convert -i "$two" -o "$work/plain.dat" --compression none >/dev/null 2>&1
	import "$two" "$work/two.utr" && import "$work/plain.dat" "$work/plain.utr" &&
		cmp "$work/two.utr" "$work/plain.utr" || return 1
	for part in 20 40 60 80 95 99; do
		head -c $(($(stat -c %s "$work/plain.dat") * part / 100)) "$work/plain.dat" >"$work/cut.dat"
		survives "$work/cut.dat" && in_order "$work/some.utr" || { echo "cut to $part %"; return 1; }
	done
}

# Other names, of which nothing is known here, in place of KVM's.
strangers() {
	trace-cmd convert -i "$fixture" -o "$work/plain.dat" --compression none >/dev/null 2>&1
	sed 's/kvm_/abc_/g; s/kvmmmu/abcdef/g' "$work/plain.dat" >"$work/strangers.dat"
	fails 39 'none of its [0-9]* events' import --json "$work/json" "$work/strangers.dat" "$work/no.utr" &&
		[ ! -e "$work/no.utr" ] || return 1
	[ "$(jq '[.others[]] | add' "$work/json")" = "$(awk '{ n += $2 } END { print n }' "$fixture.counts")" ] &&
		[ "$(jq '.kinds | length' "$work/json")" = 0 ] || return 1
	# A field by another name: its event is not made a record, the others are.
	sed 's/field:u64 spte;/field:u64 epts;/g' "$work/plain.dat" >"$work/field.dat"
	import --json "$work/json" "$work/field.dat" "$work/field.utr" &&
		[ "$(jq '.kinds.kvm_mmu_set_spte' "$work/json")" = null ] &&
		[ "$(jq '.others["kvmmmu:kvm_mmu_set_spte"]' "$work/json")" -gt 5000 ] &&
		[ "$(jq '.kinds.kvm_mmu_get_page' "$work/json")" -gt 100 ]
}

# A row for each record, by kind.
exported() {
	"$umbra" export --quiet "$work/kvm.utr" "$work/kvm.db" || return 1
	import --json "$work/kvm.json" "$fixture" "$work/again.utr" >/dev/null || return 1
	jq -r '.kinds | to_entries[] | "\(.key)|\(.value)"' "$work/kvm.json" | LC_ALL=C sort >"$work/wanted"
	sqlite3 "$work/kvm.db" 'SELECT kind, count(*) FROM events GROUP BY kind' | LC_ALL=C sort |
		diff - "$work/wanted" || return 1
	[ "$(sqlite3 "$work/kvm.db" 'SELECT count(*) > 1000 FROM sptes')" = 1 ] &&
		"$umbra" export --quiet "$work/kvm.utr" "$work/kvm.tl.json" && jq -e .traceEvents "$work/kvm.tl.json" >/dev/null
}

: >"$work/empty"
check 'two processors' processors
check 'every event is counted as trace-cmd counts it' counts "$fixture"
check 'sptes are what trace-cmd says they are' sptes "$fixture"
check 'the longest chains' longest
check 'a table, and what cannot be told' table
check 'it is exported' exported
check 'it is not replayed' fails 41 'imported from KVM' "$umbra" replay "$work/kvm.utr"
check 'cut at many places' cut
check 'a chunk that is spoilt' spoilt
check 'bits flipped anywhere, seeds 1 to 40' flips 1 40 0 "$(stat -c %s "$fixture")"
check 'bits flipped in the header and the sections, seeds 101 to 140' flips 101 140 0 16400
check 'bits flipped in the last options, seeds 201 to 220' flips 201 220 342995 343191
check 'an empty file' fails 39 'the file is empty' import "$work/empty" "$work/no.utr"
check 'zeros' zeros
check 'another version' version
check 'no file' fails 39 'No such file' import "$work/nobody" "$work/no.utr"
check 'a directory' fails 39 'this is no file' import "$work" "$work/no.utr"
check 'a file that is no trace stays' stays
check 'a trace stays where the input is none' keeps
check 'a disk that is full' full
check 'nowhere to write' fails 27 'No such file' import "$fixture" "$work/none/kvm.utr"
check 'no counts can be written' fails 1 'cannot write it' import --json "$work/none/a" "$fixture" "$work/kvm.utr"
check 'one name only' fails 2 'give a trace.dat and the file' "$umbra" import "$fixture"
check 'a timeout that is none' fails 2 'give seconds' "$umbra" import --timeout x "$fixture" "$work/no.utr"
if command -v trace-cmd >/dev/null; then
	check 'version 6 of the format' version6
	check 'no compression' plain
	check 'events and fields that are not known' strangers
fi
finish
