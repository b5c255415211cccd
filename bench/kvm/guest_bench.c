/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's benchmark: init of the guest that make bench-kvm boots on umbra and on KVM. Runs each
 * operation of ops.c in rounds and prints one line for it on the console, in ticks of the time
 * stamp counter; what a tick is worth, the script on the outside knows:
 *
 *     info NAME TEXT
 *     row NAME MEDIAN LEAST MOST          ticks an operation
 *     exits NAME PF CR IO MSR INTR INVLPG OTHER   exits an operation, on umbra only
 *     end
 *
 * Words of the kernel command line: umbra.ops=a,b,.. (which; all), umbra.children, umbra.mib,
 * umbra.rounds, umbra.control=0 (not on umbra: no control ports). Run anywhere else with the
 * argument tsc-hz, it prints the TSC's rate and ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "../../guest/control.h"
#include "../../guest/words.h"
#include "ops.h"

#define ROUNDS_MAX 31
#define KINDS      7

static const size_t counters[KINDS] = {
    offsetof(struct umbra_machine, exits_pf),    offsetof(struct umbra_machine, exits_cr),
    offsetof(struct umbra_machine, exits_io),    offsetof(struct umbra_machine, exits_msr),
    offsetof(struct umbra_machine, exits_intr),  offsetof(struct umbra_machine, exits_invlpg),
    offsetof(struct umbra_machine, exits_other),
};

static uint64_t machine_word(size_t offset)
{
	uint64_t low = control_call(UMBRA_CTL_PEEK, (uint32_t)offset);

	return low | (uint64_t)control_call(UMBRA_CTL_PEEK, (uint32_t)offset + 4) << 32;
}

static bool has_control; /* this is umbra, and we may ask it */

/* Permissions for ports cost every system call something: they are there while counters are read.
 */
static void read_counters(uint64_t *values)
{
	if (!has_control)
		return;
	control_open();
	for (size_t i = 0; i < KINDS; i++)
		values[i] = machine_word(counters[i]);
	control_close();
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void run(const struct op *op, unsigned rounds)
{
	uint64_t before[KINDS] = {0}, after[KINDS] = {0}, done = 0;
	double took[ROUNDS_MAX];

	if (op->once)
		rounds = 1;
	if (op->prepare)
		op->prepare();
	if (!op->once)
		op->round(); /* caches and shadow tables as they usually are */
	read_counters(before);
	for (unsigned i = 0; i < rounds; i++) {
		struct sample sample = op->round();

		took[i] = (double)sample.ticks / (double)sample.count;
		done += sample.count;
	}
	read_counters(after);
	if (op->finish)
		op->finish();
	qsort(took, rounds, sizeof(took[0]), compare);
	printf("row %s %.1f %.1f %.1f\n", op->name, took[rounds / 2], took[0], took[rounds - 1]);
	if (!has_control)
		return;
	printf("exits %s", op->name);
	for (size_t i = 0; i < KINDS; i++)
		printf(" %.3f", (double)(after[i] - before[i]) / (double)done);
	printf("\n");
}

/* Whether the comma-separated @list names @name; an empty one names all. */
static bool is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length]))
			return true;
	return !*list;
}

static uint64_t tsc_hz(void)
{
	struct timespec from, to, pause = {.tv_nsec = 200000000};
	uint64_t begun, ended;

	clock_gettime(CLOCK_MONOTONIC_RAW, &from);
	begun = ticks_now();
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC_RAW, &to);
	ended = ticks_now();
	return (uint64_t)((double)(ended - begun) / ((double)(to.tv_sec - from.tv_sec) +
						     (double)(to.tv_nsec - from.tv_nsec) / 1e9));
}

static void mount_one(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL) != 0 && errno != EBUSY)
		printf("info error cannot mount %s: %s\n", where, strerror(errno));
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* Ticks from where the machine began to init. On KVM the TSC begins at 0 with the machine. */
static void report_boot(uint64_t now)
{
	uint64_t begun = 0;

	if (has_control)
		begun = machine_word(offsetof(struct umbra_machine, tsc_start));
	printf("row boot %.1f %.1f %.1f\n", (double)(now - begun), (double)(now - begun),
	       (double)(now - begun));
}

static void report_system(void)
{
	struct utsname name;
	char line[256];
	FILE *cpu = fopen("/proc/cpuinfo", "re");

	if (uname(&name) == 0)
		printf("info kernel %s %s\n", name.release, name.version);
	while (cpu && fgets(line, sizeof(line), cpu))
		if (strncmp(line, "bugs", 4) == 0 || strncmp(line, "model name", 10) == 0)
			printf("info cpu %s", line);
	if (cpu)
		fclose(cpu);
}

static _Noreturn void power_off(void)
{
	printf("end\n");
	fflush(stdout);
	tcdrain(1);
	if (has_control)
		control_open();
	control_call(UMBRA_CTL_POWEROFF, 0);
	reboot(RB_AUTOBOOT); /* a KVM machine without ACPI ends by a reset */
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	uint64_t now = ticks_now();
	char list[256];

	if (argc == 2 && strcmp(argv[1], "tsc-hz") == 0) {
		printf("%llu\n", (unsigned long long)tsc_hz());
		return 0;
	}
	if (getpid() != 1) {
		fprintf(stderr,
			"guest-bench: the init of a guest; elsewhere: guest-bench tsc-hz\n");
		return 2;
	}
	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("devtmpfs", "/dev");
	open_console();
	words_read();
	/* Not on KVM: QEMU's TCG takes the TSS that KVM gives it for none, and faults on any port.
	 */
	if (words_number("control", 1, 0, 1))
		control_open();
	has_control = control_present();
	control_call(UMBRA_CTL_INIT, 0);
	words_string("ops", "", list, sizeof(list));
	report_system();
	report_boot(now);
	control_close();
	ops_configure(words_number("children", 200, 1, 4000), words_number("mib", 64, 1, 1024));
	for (const struct op *op = ops; op->name; op++)
		if (is_listed(list, op->name))
			run(op, (unsigned)words_number("rounds", 5, 1, ROUNDS_MAX));
	power_off();
}
