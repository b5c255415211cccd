#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_manual.sh UMBRA SOURCES GUESTS FAKE_VMM: what umbra(1) tells is what the command does, as TAP:
# exit statuses, commands of umbra ctl, names in their answers and in reports.
set -u
umbra=$1 sources=$2 guests=$3 fake=$4
. "$(dirname "$0")/../tap.sh"
manual=$sources/docs/umbra.1

# section NAME: its lines.
section() { awk -v name="$1" '/^\.SH/ { on = $0 == ".SH " name; next } on' "$manual"; }

# same A B: two files of one word list each; what only one of them has is said.
same() {
	sort -u "$1" >"$work/a" && sort -u "$2" >"$work/b" && [ -s "$work/a" ] && diff "$work/a" "$work/b"
}

statuses() {
	section "EXIT STATUS" | grep -oE '^[0-9, ]+\|' | tr -s ',| ' '\n' | grep . >"$work/told"
	{
		grep -oE 'STATUS_[A-Z_]+ = [0-9]+' "$sources/cli/status.h" | grep -v SIGNAL | grep -oE '[0-9]+$'
		printf '%s\n' 129 130 143
	} >"$work/are"
	same "$work/told" "$work/are"
}

commands() { "$umbra" ctl help | sed -n '/^Ask the machine/,$ s/^  \([a-z-]\+\) .*/\1/p'; }

# Each has its paragraph.
told() {
	local name
	commands >"$work/commands"
	[ "$(wc -l <"$work/commands")" -gt 20 ] || return 1
	section "ASKING A MACHINE" | grep -E '^\.(BI|BR|B) ' | sed 's/\\//g; s/[",]/ /g' >"$work/heads"
	while read -r name; do
		grep -qw -- "$name" "$work/heads" || { echo "no paragraph about $name"; return 1; }
	done <"$work/commands"
}

# rows SECTION: "NAME FIELD" of each row of its table.
rows() {
	section "$1" | sed -n '/^\.TS/,/^\.TE/ s/^\([a-z-]*\)|\([a-z_0-9]*\)\(|.*\)\?$/\1 \2/p' |
		awk '{ if (NF > 1) name = $1; print name, $NF }'
}

answers() {
	local name field
	commands >"$work/commands"
	while read -r name; do
		for field in $("$umbra" ctl help "$name" | sed -n 's/^answers: //p'); do
			echo "$name $field"
		done
	done <"$work/commands" >"$work/are"
	rows ANSWERS >"$work/told"
	[ "$(wc -l <"$work/are")" -gt 50 ] && diff "$work/told" "$work/are" # in that order
}

# keys NAME FILE: of the objects in a JSON file, as rows.
keys() { jq -r --arg name "$1" '(if type == "array" then .[] else . end) | keys[] | "\($name) \(.)"' "$2"; }

# What has JSON of its own.
own() {
	local field
	local trace=$sources/tests/trace/fixtures/tables.utr
	"$umbra" rmap --json --quiet "$trace" 100 >"$work/rmap" &&
		"$umbra" walk --json --quiet "$trace" 100000 >"$work/walk" || return 1
	rows ANSWERS | grep '^rmap\|^walk' >"$work/told"
	{ keys rmap "$work/rmap" && keys walk "$work/walk"; } >"$work/are"
	same "$work/told" "$work/are" || return 1
	for field in $(jq -r '(.guest + .shadow)[] | keys[]' "$work/walk" | sort -u); do
		section ANSWERS | grep -q "fB$field\\\\f" || { echo "walk: $field"; return 1; }
	done
}

figures() {
	UMBRA_VMM=$fake "$umbra" run --batch --kernel "$guests/poweroff.bzimage" --no-initrd --memory 64M \
		--storm 30 --stats "$work/stats" >/dev/null </dev/null || return 1
	rows "THE FIGURES" >"$work/told"
	jq -r 'to_entries[] | .key as $name | .value | keys[] | "\($name) \(.)"' "$work/stats" >"$work/are"
	same "$work/told" "$work/are"
}

check "each exit status" statuses
check "each command of umbra ctl" told
check "all that they answer" answers
check "what is JSON only, too" own
check "all figures of a run" figures
finish
