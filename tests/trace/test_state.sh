#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# test_state.sh UMBRA TRACE STATES: the same trace and settings end in the same state, whatever compiler
# and sanitizer made umbra. A line of STATES: settings ("-": the recorded ones), then the state.
umbra=$1 trace=$2 states=$3
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
while read -r settings state; do
	case $settings in
	'#'*) continue ;;
	-) set -- ;;
	*) set -- --config "$settings" ;;
	esac
	"$umbra" replay --quiet --json "$work/json" "$@" "$trace" || failed=1
	now=$(jq -r .state "$work/json")
	[ "$now" = "$state" ] || { echo "settings $settings: state $now, not $state"; failed=1; }
done <"$states"
exit $failed
