#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The init of the guest that runs from a Debian disk (scripts/fetch-guests puts it there): Debian's own
# tools do work whose result is known, files are written and read again. Ends by a program that it
# compiles.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
bad=0
cd /root || bad=1
fails() {
	echo "guest: $1 failed"
	bad=1
}

echo "guest: Debian $(cat /etc/debian_version) on a disk"
cat >primes.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>

int main(int argc, char **argv)
{
	size_t limit = 200000, count = 0;
	char *crossed = calloc(limit, 1);

	if (argc > 1 && strcmp(argv[1], "halt") == 0)
		return reboot(RB_HALT_SYSTEM);
	for (size_t i = 2; i < limit; i++) {
		count += !crossed[i];
		for (size_t k = 2 * i; !crossed[i] && k < limit; k += i)
			crossed[k] = 1;
	}
	printf("%zu\n", count);
	return 0;
}
END
gcc -O2 -Wall -o primes primes.c || fails "compiling"
[ "$(./primes)" = 17984 ] || fails "the compiled program"

seq 120000 | awk '{ print ($1 * 7919) % 120000, $1 }' >shuffled
sort -n -S 4M shuffled >sorted || fails "sort"
sync
echo 3 >/proc/sys/vm/drop_caches
sort -n -c sorted || fails "the order"
[ "$(wc -l <sorted)" = 120000 ] || fails "the number of lines"
[ "$(sort shuffled | md5sum)" = "$(sort sorted | md5sum)" ] || fails "the lines"
(cd / && md5sum --quiet -c /var/lib/dpkg/info/coreutils.md5sums) || fails "coreutils' checksums"
rm -f shuffled sorted
sync
[ $bad = 0 ] && echo "guest: compiled, sorted, checksums hold"
exec ./primes halt
