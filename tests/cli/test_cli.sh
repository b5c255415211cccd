#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_cli.sh UMBRA FAKE_VMM GUEST: the command's own promises, as TAP. Every bad input gets its exit
# status (umbra(1)) and a message that names it; whatever ends the command, no process and no
# file is left. The hypervisor is a fake (fake_vmm.c) that ends as --storm tells it; GUEST is
# any whole bzImage.
set -u
umbra=$1 guest=$3
export UMBRA_VMM=$2

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/tmp" "$dir/bin"
export TMPDIR=$dir/tmp
count=0 bad=0

result() { # ok?, name
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		bad=1
		sed 's/^/# /' "$dir/err" "$dir/out" 2>/dev/null | tail -n 20
	fi
}

# Processes that carry this test's mark on their command line. (grep's own says it in other words.)
left() {
	grep -qsa -- "umbra[.]test=$mark" /proc/[0-9]*/cmdline
}

gone() { # everything that carries the mark ends within three seconds, without files
	local i
	for i in $(seq 30); do
		left || break
		sleep 0.1
	done
	! left && [ -z "$(ls -A "$dir/tmp")" ]
}

# expect STATUS PATTERN NAME ARGUMENT...: the exit status, a message, nothing left.
expect() {
	local want=$1 pattern=$2 name=$3 got
	shift 3
	mark=$$-$count
	timeout 60 "$umbra" run --batch --append "umbra.test=$mark" "$@" >"$dir/out" 2>"$dir/err" \
		</dev/null
	got=$?
	[ $got -eq "$want" ] || echo "status $got, expected $want" >>"$dir/err"
	[ $got -eq "$want" ] && grep -q -- "$pattern" "$dir/err" "$dir/out" && gone
	result $? "$name"
}

# A run of the fake, small: expect_fake STATUS PATTERN NAME TASK ARGUMENT...
expect_fake() {
	local want=$1 pattern=$2 name=$3 task=$4
	shift 4
	expect "$want" "$pattern" "$name" --kernel "$guest" --no-initrd --memory 64M --storm "$task" "$@"
}

# Interrupt a running command with a signal.
interrupt() { # signal, status, task
	local got pid
	mark=$$-$count
	: >"$dir/out"
	"$umbra" run --batch --append "umbra.test=$mark" --kernel "$guest" --no-initrd --memory 64M \
		--storm "$3" >"$dir/out" 2>"$dir/err" </dev/null &
	pid=$!
	for _ in $(seq 100); do
		grep -q "fake: up" "$dir/out" && break
		sleep 0.1
	done
	left || echo "QEMU did not run" >>"$dir/err"
	kill "-$1" "$pid"
	wait "$pid" 2>/dev/null
	got=$?
	[ $got -eq "$2" ] || echo "status $got, expected $2" >>"$dir/err"
	[ $got -eq "$2" ] && ! grep -q "did not run" "$dir/err" && gone
	result $? "$1 ends it and leaves nothing (task $3)"
}

# --- usage
expect 2 "unrecognized" "an unknown option" --nonsense
expect 2 "no such argument" "a stray argument" stray
expect 2 "quota" "a quota out of range" --quota 3
expect 2 "0 to 1000000 pages" "a merge rate out of range" --merge 1000001
expect 2 "0 to 1000000 frames" "a rate of compaction out of range" --compact 1000001
expect 2 "timeout" "a timeout that is none" --timeout soon
expect 2 "give 1 to 8" "too many guests" --guests 9
expect 2 "give 1 to 8" "no guest" --guests 0
expect 2 "no such guest" "a guest that is not there, to be recorded" --guests 2 --record-guest 2
expect 2 "give --disk-ro" "a disk for several to write" --guests 2 --disk "$guest"
expect 8 "8 guests" "several guests need more" --kernel "$guest" --no-initrd --memory 128G --guests 8
"$umbra" >"$dir/out" 2>"$dir/err"
[ $? -eq 2 ]
result $? "no command at all"
"$umbra" --help | grep -q run && "$umbra" run --help | grep -q -- --quota
result $? "--help"
"$umbra" --version | grep -q '^umbra [0-9]'
result $? "--version"

# --- files
head -c 900 "$guest" >"$dir/short"
head -c 1000 /dev/zero >"$dir/zeros"
: >"$dir/empty"
truncate -s 300M "$dir/big"
expect 3 "nowhere" "kernel missing" --kernel "$dir/nowhere"
expect 3 "regular" "kernel is a directory" --kernel "$dir"
expect 4 "not a bzImage" "kernel is not a bzImage" --kernel "$dir/zeros"
expect 4 "not a bzImage" "kernel is empty" --kernel "$dir/empty"
expect 4 "no 64-bit entry\|not a bzImage" "no such entry point" --kernel "$dir/zeros" --format linux64
expect 4 "no Multiboot 1 header" "not a Multiboot image" --kernel "$guest" --format multiboot
expect 4 "flat image" "flat image too large" --kernel "$dir/big" --format flat
expect 2 "give linux16" "unknown format" --format elf
expect 2 "give shadow or nested" "unknown paging" --paging both
expect 2 "for Multiboot guests" "module for Linux" --kernel "$guest" --module "$dir/zeros"
expect 2 "give 1 to 127" "nothing to wait for" --until ""
expect 5 "truncated" "kernel is truncated" --kernel "$dir/short"
expect 6 "nowhere" "initrd missing" --kernel "$guest" --initrd "$dir/nowhere"
expect 7 "do not fit" "initrd larger than memory" --kernel "$guest" --initrd "$dir/big" --memory 256M
UMBRA_VMM=$dir/nowhere expect 11 "hypervisor image" "hypervisor image missing" --kernel "$guest"

# --- what is wrong is said before a kernel is fetched, of which there is none here
early() { UMBRA_CACHE=/proc/nowhere expect "$@"; }
early 24 "fetched" "no kernel"
early 29 "no socket" "a control socket's place is taken" --control "$dir/zeros"
early 29 "No such file" "a control socket in no directory" --control "$dir/nowhere/socket"
early 29 "longer" "a control socket of a long name" --control "$dir/$(printf %0120d 0)"
early 1 "nowhere/stats.json" "figures into no directory" --stats "$dir/nowhere/stats.json"
early 27 "nowhere/trace" "a trace into no directory" --record "$dir/nowhere/trace.utr"
early 6 "nowhere" "no such initrd" --initrd "$dir/nowhere"
early 2 "for Multiboot" "a module for nobody" --module "$dir/zeros"
early 9 "cannot run" "no such QEMU" --qemu "$dir/nowhere"
early 25 "No such file" "no such disk" --disk "$dir/nowhere"
early 42 "regular" "a swap file that is none" --swap /dev/null
UMBRA_VMM=$dir/nowhere early 11 "hypervisor image" "no hypervisor image"

# --- memory
expect 8 "too small" "memory of 0" --memory 0
expect 8 "too small" "memory of 1M" --memory 1M
expect 8 "not a size" "memory of abc" --memory abc
expect 8 "not a size" "memory of -1G" --memory -1G
expect 8 "not a size" "memory of 99999999999999999999G" --memory 99999999999999999999G
expect 8 "available" "memory of more than the host has" --kernel "$guest" --memory 1000G

# --- disks
truncate -s 1M "$dir/disk"
truncate -s 1000 "$dir/odd"
: >"$dir/nothing"
expect 25 "No such file" "a disk that is not there" --kernel "$guest" --disk "$dir/nowhere"
expect 25 "neither a file" "a disk that is a directory" --kernel "$guest" --disk-ro "$dir"
expect 25 "sectors" "a disk with a broken last sector" --kernel "$guest" --disk "$dir/odd"
expect 25 "sectors" "an empty disk" --kernel "$guest" --disk "$dir/nothing"
expect 2 "one disk" "two disks" --kernel "$guest" --disk "$dir/disk" --disk-ro "$dir/disk"
expect 2 "uart or virtio" "a console of another kind" --kernel "$guest" --console lpt
flock "$dir/disk" sleep 3 &
sleep 0.3
expect 25 "in use" "a disk in use" --kernel "$guest" --disk "$dir/disk"
wait

# --- frames and the swap file
expect 8 "32M to 64G" "too few frames" --frames 1M
expect 8 "32M to 64G" "frames of abc" --frames abc
expect 2 "1M to 1024G" "a swap file of 4K" --swap "$dir/swap,4K"
expect 2 "name of a file" "a swap file without a name" --swap ""
expect 2 "name of a file" "a swap file without a name, with a size" --swap ",1M"
expect 2 '"12q" is no size; write FILE,SIZE' "a size of a swap file that is none" --swap "$dir/sw,12q"
expect 2 '"" is no size' "no size behind the comma" --swap "$dir/sw,"
expect 2 '"b" is no size' "a swap file with a comma in its name" --swap "$dir/a,b"
expect 42 "No such file" "a swap file in no directory" --kernel "$guest" --swap "$dir/nowhere/swap"
expect 42 "swap file /proc/version: " "a swap file that cannot be written" --kernel "$guest" --swap /proc/version
expect 42 "regular" "a swap file that is a device" --kernel "$guest" --swap /dev/null
cp "$dir/disk" "$dir/precious"
expect 42 "something else in it" "a swap file that is somebody's" --kernel "$guest" --swap "$dir/precious"
cmp -s "$dir/disk" "$dir/precious"
result $? "it is as it was"
expect_fake 0 "poweroff" "a swap file is made" 30 --swap "$dir/made,2M"
expect_fake 0 "poweroff" "with a comma in its name" 30 --swap "$dir/a,b,2M"
[ -f "$dir/a,b" ]
result $? "and a size behind it"
[ "$(stat -c '%a %s' "$dir/made")" = "600 4096" ]
result $? "and nobody else may read it"
printf 'left by a run that was killed' | dd of="$dir/made" bs=1 seek=9000 conv=notrunc 2>/dev/null
expect_fake 0 "poweroff" "what an earlier run left goes" 30 --swap "$dir/made"
[ "$(stat -c %s "$dir/made")" = 4096 ]
result $? "all of it"
chmod 666 "$dir/made"
expect_fake 0 "poweroff" "a swap file that others can read" 30 --swap "$dir/made"
[ "$(stat -c %a "$dir/made")" = 600 ]
result $? "and cannot any more"
if [ "$(id -u)" -eq 0 ]; then
	cp "$dir/made" "$dir/theirs"
	chown 1 "$dir/theirs"
	expect 42 "somebody else's" "a swap file of somebody else's" --kernel "$guest" --swap "$dir/theirs"
fi
flock "$dir/made" sleep 3 &
sleep 0.3
expect 42 "in use" "a swap file in use" --kernel "$guest" --swap "$dir/made"
wait

# --- QEMU
expect_fake 9 "cannot run" "QEMU is not where --qemu says" 30 --qemu "$dir/nowhere"
mark=$$-$count
PATH=$dir/bin "$umbra" run --batch --kernel "$guest" --no-initrd --memory 64M >"$dir/out" 2>"$dir/err" </dev/null
[ $? -eq 9 ] && grep -q "install QEMU" "$dir/err"
result $? "QEMU is not in PATH"
printf '#!/bin/sh\necho "invalid accelerator tcg" >&2\nexit 1\n' >"$dir/bin/no-tcg"
printf '#!/bin/sh\necho "something odd" >&2\nexit 1\n' >"$dir/bin/odd"
printf '#!/bin/sh\nkill -9 $$\n' >"$dir/bin/dies"
chmod +x "$dir/bin"/*
expect_fake 10 "no TCG" "QEMU without TCG" 30 --qemu "$dir/bin/no-tcg"
expect_fake 21 "something odd" "QEMU that fails is quoted" 30 --qemu "$dir/bin/odd"
expect_fake 21 "signal 9" "QEMU that is killed" 30 --qemu "$dir/bin/dies"

# --- every end
expect_fake 0 "poweroff" "power-off" 1
expect_fake 13 "reset" "reboot" 2
expect_fake 12 "triple" "triple fault" 3
expect_fake 14 "there is no memory" "code where nothing is" 4
expect_fake 15 "cannot be emulated" "emulation failure" 5
expect_fake 16 "out of memory" "out of memory" 6
expect_fake 18 "audit" "audit violation" 7
expect_fake 23 "cannot load" "image refused" 8
expect_fake 10 "no SVM" "QEMU without SVM" 9
expect_fake 10 "guest 1: .*no SVM" "and before there are several guests" 9 --guests 2
expect_fake 20 "hypervisor failed" "hypervisor panic" 10
expect_fake 21 "vanished" "a machine that resets without a word" 22
expect_fake 21 "vanished" "the same with several guests" 22 --guests 3 --stats "$dir/several.json"
[ "$(jq -c '[.guests[].exit]' "$dir/several.json")" = '["vanished","vanished","vanished"]' ]
result $? "each of them has vanished"
expect_fake 0 "workload: ok" "workload ok" 30
expect_fake 19 "workload failed" "workload failed" 31
expect_fake 18 "violations" "violations counted" 32
expect_fake 0 "boot to init" "init's marker gives the boot time" 23
expect_fake 17 "timeout" "timeout" 20 --timeout 1.5
expect_fake 17 "timeout" "timeout of a deaf machine" 21 --timeout 1.5
cp "$guest" "$dir/a kernel, with commas,,"
expect 0 "poweroff" "names with blanks and commas" --kernel "$dir/a kernel, with commas,," --memory 64M \
	--initrd "$dir/a kernel, with commas,," --storm 30 --append "a,b,,c d"

# --- the figures
expect_fake 0 "poweroff" "a run with --stats" 30 --stats "$dir/stats.json"
jq -e '.guest.exit == "poweroff" and .guest.workload == "ok" and .guest.memory_bytes == 67108864 and
	.mmu.longest_chain == 257 and .mmu.rmap_histogram[8] == 3 and .mmu.audit_violations == 0 and
	(.drop | has("gfns") and has("sptes") and has("ns_per_spte") and has("longest_us")) and
	(.swap | has("out") and has("in") and has("fault_mean_us"))' \
	"$dir/stats.json" >"$dir/out" 2>"$dir/err"
result $? "the shape of the JSON file"
expect_fake 1 "cannot write" "--stats in no directory" 30 --stats "$dir/nowhere/stats.json"
[ -z "$(find "$dir" -name 'stats.json.*')" ]
result $? "no partial JSON file"

# --- the terminal
mark=$$-$count
rm -f "$dir/out"
(
	for _ in $(seq 100); do
		grep -qs "fake: up" "$dir/out" && break
		sleep 0.1
	done
	printf '\001s'
	sleep 1
	printf '\001x'
	sleep 1
) | timeout 60 script -qefc "'$umbra' run --append umbra.test=$mark --kernel '$guest' --no-initrd \
	--memory 64M --storm 20" "$dir/out" >/dev/null 2>"$dir/err"
[ $? -eq 22 ] && [ "$(grep -c "longest chain  *257" "$dir/out")" -eq 2 ] && gone
result $? "Ctrl-A s prints figures, Ctrl-A x ends"

# --- a hypervisor that answers wrongly
asked() { # STATUS PATTERN NAME VERB...
	local want=$1 pattern=$2 name=$3 got
	shift 3
	timeout 240 "$umbra" ctl "$dir/socket" "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	[ $got -eq "$want" ] && { [ -z "$pattern" ] || grep -q -- "$pattern" "$dir/err" "$dir/out"; }
	result $? "$name"
}

mark=$$-$count
"$umbra" run --batch --append "umbra.test=$mark" --kernel "$guest" --no-initrd --memory 64M --storm 24 \
	--control "$dir/socket" >"$dir/run" 2>&1 </dev/null &
wrong=$!
for _ in $(seq 100); do
	grep -qs "fake: up" "$dir/run" && break
	sleep 0.1
done
asked 1 "more than 1048576 mappings" "mappings without end" rmap 100
asked 30 "ask again" "a log that cannot be collected" dirty-rate 1
asked 0 "zaps of everything *0" "has been stopped" stats
asked 0 "" "a recording of a ring that makes no sense" record "$dir/wrong.utr"
sleep 0.5
asked 29 "" "a guest that ends without an end of its sentence" drop 1 1
asked 29 "has ended: t\{256\}$" "which is told, and no more" rmap 100
asked 27 "ends early" "the recording of a guest that has ended can be ended" record-end
asked 27 "no recording" "and was" record-end
grep -q "makes no sense" "$dir/run"
result $? "its trace says why it ends"
kill "$wrong"
wait "$wrong" 2>/dev/null

# --- a hypervisor that changes what it said while it is read
mark=$$-$count
rm -f "$dir/run"
"$umbra" run --batch --append "umbra.test=$mark" --kernel "$guest" --no-initrd --memory 64M --storm 25 \
	--control "$dir/socket" >"$dir/run" 2>&1 </dev/null &
wrong=$!
for _ in $(seq 100); do
	grep -qs "fake: up" "$dir/run" && break
	sleep 0.1
done
# Both run at a time, each on a processor of its own, where there are two.
apart() {
	local list first last task
	list=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
	first=${list%%[-,]*} last=${list##*[-,]}
	taskset -cp "$last" "$1" || return
	for task in "/proc/$(cut -d ' ' -f 1 "/proc/$1/task/$1/children")/task"/*; do
		taskset -cp "$first" "${task##*/}"
	done
}
apart "$wrong" >/dev/null 2>&1
# Each is answered: with numbers, or an error that says what is wrong.
changing() {
	local form got
	for form in "$@"; do
		# shellcheck disable=SC2086
		timeout 20 "$umbra" ctl $form >"$dir/out" 2>"$dir/err"
		got=$?
		case $got in
		0) [ "${form#--json}" = "$form" ] || jq -e . "$dir/out" >/dev/null || return 1 ;;
		1 | 2 | 16 | 27 | 30) grep -q '^umbra: ..' "$dir/err" ;;
		*) false ;;
		esac || { echo "ctl $form: status $got" >>"$dir/err"; return 1; }
	done
}
for verb in "rmap 100" "walk 1000" stats "drop 1 1" slots touches watches swap audit log-start zap; do
	ok=0
	for _ in $(seq 15); do
		changing "$dir/socket $verb" "--json $dir/socket $verb" || { ok=1; break; }
	done
	result $ok "${verb% *}, of a hypervisor that changes what it answers"
done
ok=0
for i in 1 2 3 4 5; do
	changing "$dir/socket record $dir/changing$i.utr" && sleep 0.1 && changing "$dir/socket record-end" || { ok=1; break; }
done
result $ok "a recording of it"
kill -0 "$wrong" && ! grep -q "Sanitizer\|runtime error" "$dir/run"
result $? "the command goes on"
kill "$wrong"
wait "$wrong" 2>/dev/null

# --- interruptions
interrupt INT 130 20
interrupt TERM 143 20
interrupt HUP 129 21
interrupt KILL 137 20

echo "1..$count"
exit $bad
