#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# test_rows.sh VMM GUEST: the bare-metal guest of make bench-kvm's host rows on umbra, small: each row is
# there, and says what the guest did before it. Prints TAP.
set -u
vmm=$1 guest=$2
count=0 bad=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() { # name, pattern that is there
	count=$((count + 1))
	if grep -qE "^$2" "$work/out"; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' "$work/out"
		bad=1
	fi
}

timeout 120 qemu-system-x86_64 -M pc -accel tcg,thread=single -cpu max -m 512M -nodefaults -no-user-config \
	-display none -serial stdio -monitor none -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=0x4 \
	-kernel "$vmm" -initrd "$guest pages=512 aliases=3 rounds=1" \
	-append "memory=$((64 << 20)) spare=$((16 << 20))" </dev/null 2>&1 | tr -d '\r' >"$work/out"
for row in drop_range drop_page protect remap slot_renew invalidate age log_start; do
	check "$row: all sptes" "host $row [1-9][0-9]* 1536\$"
done
check 'the next accesses' 'host invalidate_page [1-9][0-9]* 512$'
check 'by further aliases' 'host invalidate_spte [1-9][0-9]* 1024$'
check 'the log has what was written' 'host log_collect [1-9][0-9]* 512$'
check 'and word by word' 'host log_words [1-9][0-9]* 512$'
check 'and then nothing' 'host log_clean [1-9][0-9]* 4096$'
check 'all pages hold the same' 'host merge [1-9][0-9]* 512$'
check 'until they are written' 'host merge_break [1-9][0-9]* 512$'
check 'all of it side by side' 'host collapse [1-9][0-9]* 512$'
check 'another slot' 'host warm_renewed [1-9][0-9]* 1536$'
check 'the end' 'end$'
echo "1..$count"
exit $bad
