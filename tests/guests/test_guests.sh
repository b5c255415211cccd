#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_guests.sh UMBRA DIR [--all|--workload] [--paging shadow|nested] [NAME...]: run the guests of
# guests.cfg, as TAP. Their images are in DIR; those that Debian makes where scripts/fetch-guests put
# them (UMBRA_GUESTS). Without --all only the quick ones. --workload boots Debian's kernel
# with a smaller workload, and looks at its figures. Needs bash, jq.
set -u
umbra=$1 dir=$2
shift 2
all='' workload='' kinds="shadow nested" wanted=()
while [ $# -gt 0 ]; do
	case $1 in
	--all) all=yes ;;
	--workload) workload=yes ;;
	--paging)
		kinds=$2
		shift
		;;
	*) wanted+=("$1") ;;
	esac
	shift
done
debian=${UMBRA_GUESTS:-build/guests}
cfg=$(dirname "$0")/guests.cfg

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0 bad=0

# boot NAME STATUS EXIT OUTPUT SECONDS ARGUMENT...: exit status, guest.exit, a part of the output.
boot() {
	local name=$1 want=$2 exit=$3 output=$4 seconds=$5 got
	shift 5
	count=$((count + 1))
	timeout "$seconds" "$umbra" run --batch --stats "$work/stats.json" "$@" >"$work/out" 2>"$work/err" \
		</dev/null
	got=$?
	if [ $got -eq "$want" ] && grep -aqF -- "$output" "$work/out" &&
		[ "$(jq -r .guest.exit "$work/stats.json")" = "$exit" ]; then
		echo "ok $count - $name"
		return 0
	fi
	echo "not ok $count - $name"
	echo "# status $got, expected $want; exit expected: $exit; output expected: $output; output:"
	tail -n 60 "$work/out" "$work/err" | cat -v | sed 's/^/# /'
	bad=1
	return 1
}

# The figures that a run of the workload must show, whatever its size: at least as many.
workload() {
	local paging=$1 children=32 migrations=1500 chain=32
	[ "$paging" = shadow ] || chain=1 # a page has one spte there
	boot "workload, $paging" 0 poweroff "umbra-init: workload ok" 500 --memory 512M \
		--paging "$paging" --append \
		"umbra.children=$children umbra.mib=2 umbra.migrations=$migrations" || return
	count=$((count + 1))
	if jq -e --argjson chain "$chain" --argjson migrations "$migrations" \
		'.guest.workload == "ok" and .mmu.audit_violations == 0 and .mmu.audits >= 5 and
		.mmu.longest_chain >= $chain and .mmu.migrations >= $migrations and
		.drop.gfns >= 1024 and .drop.sptes > 1000 and .guest.boot_seconds > 0' \
		"$work/stats.json" >/dev/null; then
		echo "ok $count - its figures, $paging"
	else
		echo "not ok $count - its figures, $paging"
		sed 's/^/# /' "$work/stats.json"
		bad=1
	fi
}

# whole NAME: the file system on the disk that a guest used is.
whole() {
	count=$((count + 1))
	if PATH=$PATH:/usr/sbin:/sbin e2fsck -fn "$work/disk" >"$work/out" 2>&1; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' "$work/out"
		bad=1
	fi
	rm -f "$work/disk"
}

# One stanza: its keys are in the variables of the same names.
stanza() {
	local kind arguments path initrd=--no-initrd
	[ -n "$name" ] || return 0
	[ -n "$all" ] || [ "$quick" = yes ] || return 0
	[ ${#wanted[@]} -eq 0 ] || printf '%s\n' "${wanted[@]}" | grep -qxF -- "$name" || return 0
	args=${args//@DIR@/$dir} args=${args//@I386@/$debian/i386.cpio} args=${args//@DISK@/$work/disk}
	# "\ " is a space within a word.
	eval "arguments=($(printf '%s' "$args" | sed "s/[^ A-Za-z0-9_@%+=:,./\\\\-]/\\\\&/g"))"
	case $image in
	DEFAULT)
		path=
		initrd=
		;;
	DEBIAN:memtest*) path=$debian/${image#DEBIAN:} ;;
	DEBIAN:*)
		path=$debian/${image#DEBIAN:}
		initrd=
		;;
	*)
		path=$dir/$image
		arguments=(--memory 64M --storm 0 "${arguments[@]}")
		;;
	esac
	case $args in *--initrd*) initrd= ;; esac
	case $image in *.bzimage | DEBIAN:memtest*) ;; *) initrd= ;; esac
	for kind in $kinds; do
		case " $paging " in *" $kind "*) ;; *) continue ;; esac
		case $disk in
		'') ;;
		DEBIAN:*) cp --sparse=always "$debian/${disk#DEBIAN:}" "$work/disk" ;;
		*) "$(dirname "$0")/make-disk" "$work/disk" "$disk" ;;
		esac
		boot "$name, $kind" "$status" "$exit" "$output" "$seconds" ${path:+--kernel "$path"} \
			${initrd:+"$initrd"} --paging "$kind" "${arguments[@]}"
		[ -z "$disk" ] || [ "$disk" = sectors ] || whole "$name, $kind: its file system"
	done
}

reset() {
	name=$1 image='' args='' disk='' status=0 exit=poweroff output='' paging="shadow nested" quick=yes seconds=120
}

if [ -n "$workload" ]; then
	for kind in $kinds; do
		workload "$kind"
	done
	echo "1..$count"
	exit $bad
fi
reset ''
while IFS= read -r line; do
	case $line in
	'#'* | '') ;;
	'['*']')
		stanza
		line=${line#?}
		reset "${line%?}"
		;;
	*' = '*)
		key=${line%% = *}
		case $key in
		image | args | disk | status | exit | output | paging | quick | seconds)
			printf -v "$key" '%s' "${line#* = }"
			;;
		*)
			echo "Bail out! guests.cfg: no key $key"
			exit 1
			;;
		esac
		;;
	*)
		echo "Bail out! guests.cfg: $line"
		exit 1
		;;
	esac
done <"$cfg"
stanza
echo "1..$count"
exit $bad
