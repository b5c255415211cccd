#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_manual.sh UMBRA SOURCES: what umbra(1) tells is what the command does, as TAP: exit statuses,
# commands of umbra ctl.
set -u
umbra=$1 sources=$2
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
	commands >"$work/commands"
	[ "$(wc -l <"$work/commands")" -gt 20 ] || return 1
	section "ASKING A MACHINE" | grep -E '^\.(BI|BR|B) ' | sed 's/\\//g; s/[",]/ /g' >"$work/heads"
	while read -r name; do
		grep -qw -- "$name" "$work/heads" || { echo "no paragraph about $name"; return 1; }
	done <"$work/commands"
}

check "each exit status" statuses
check "each command of umbra ctl" told
finish
