#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tap.sh: what tests in bash share; they source it, and set $umbra. Each subtest is a line of TAP. Owns
# $work, a directory that goes when the test ends, with $sock, where a machine listens that the test
# left running; $run, if not empty, is the process of that machine, and ends with the test.
work=$(mktemp -d) || exit 1
sock=$work/socket
run=
trap '[ -z "$run" ] || kill "$run" 2>/dev/null; rm -rf "$work"' EXIT
number=0 bad=0

# check NAME COMMAND...: one subtest. Where it fails, what it said, and the machine ($work/log).
check() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@" >"$work/said" 2>&1; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		tail -n 30 "$work/said" "$work/log" 2>/dev/null | cat -v | sed 's/^/# /'
		bad=1
	fi
}

# Behind the last subtest.
finish() {
	echo "1..$number"
	exit $bad
}

# fails STATUS WORDS COMMAND...
fails() {
	local status=$1 words=$2 got
	shift 2
	"$@" >"$work/out" 2>&1
	got=$?
	cat "$work/out"
	[ $got -eq "$status" ] && grep -q -- "$words" "$work/out"
}

ctl() { "$umbra" ctl "$sock" "$@"; }
ctl_json() { "$umbra" ctl --json "$sock" "$@"; }

# says FILTER VERB...: the verb's JSON meets the filter.
says() {
	local filter=$1
	shift
	ctl_json "$@" | tee "$work/json" | jq -e "$filter" >/dev/null || { cat "$work/json"; return 1; }
}
