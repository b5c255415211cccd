/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The emulator against the processor: random instructions with random operands and flags, run by
 * both on the same memory. Registers, flags, SSE registers, memory, where it went on, or the
 * exception that was raised, must be the same. Operands lie anywhere around a page's border.
 *
 * test_execute [--count N] [--seed N] [--bits 64|32]
 *
 * Exit status 77: a processor without code of 32 bits was to run some.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attempt.h"
#include "emu.h"

#define SKIPPED  77  /* meson's */
#define ONCE_MAX 20u /* differences that were not there again */

static unsigned bits = 64;

/* ------------------------------------------------------------------ the emulator's side */

struct host {
	struct registers *registers;
	int vector;
};

static enum emu_result host_translate(void *ctx, uint64_t linear, unsigned kind,
				      struct emu_place *place)
{
	struct host *host = ctx;

	(void)kind;
	if (linear < NATIVE_DATA || linear >= NATIVE_DATA + 8192) {
		host->vector = 14;
		return EMU_FAULT;
	}
	place->gpa = linear;
	place->va = (uint8_t *)linear;
	return EMU_DONE;
}

static uint64_t host_device_read(void *ctx, uint64_t gpa, unsigned size)
{
	(void)ctx, (void)gpa, (void)size;
	abort();
}

static void host_device_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)ctx, (void)gpa, (void)size, (void)value;
	abort();
}

static void host_written(void *ctx, uint64_t gpa, size_t size)
{
	(void)ctx, (void)gpa, (void)size;
}

static void host_raise(void *ctx, unsigned vector, int64_t error)
{
	struct host *host = ctx;

	(void)error;
	host->vector = (int)vector;
}

static void host_xmm_read(void *ctx, unsigned reg, void *value)
{
	memcpy(value, ((struct host *)ctx)->registers->xmm[reg], 16);
}

static void host_xmm_write(void *ctx, unsigned reg, const void *value)
{
	memcpy(((struct host *)ctx)->registers->xmm[reg], value, reg < EMU_MM ? 16 : 8);
}

static uint32_t host_port_read(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	abort();
}

static void host_port_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value;
	abort();
}

static const struct emu_host emu_host = {
    .translate = host_translate,
    .device_read = host_device_read,
    .device_write = host_device_write,
    .written = host_written,
    .raise = host_raise,
    .xmm_read = host_xmm_read,
    .xmm_write = host_xmm_write,
    .port_read = host_port_read,
    .port_write = host_port_write,
};

static const struct emu_segment flat[6] = {
    {0x2b, 0xcf3, ~0u, 0}, {0x33, 0xafb, ~0u, 0}, {0x2b, 0xcf3, ~0u, 0},
    {0x2b, 0xcf3, ~0u, 0}, {0, 0xcf3, ~0u, 0},    {0, 0xcf3, ~0u, 0},
};

static const struct emu_segment flat32[6] = {
    {0x2b, 0xcf3, ~0u, 0}, {0x23, 0xcfb, ~0u, 0}, {0x2b, 0xcf3, ~0u, 0},
    {0x2b, 0xcf3, ~0u, 0}, {0, 0xcf3, ~0u, 0},    {0, 0xcf3, ~0u, 0},
};

/* -1, or a vector, or -2: not known. A REP runs to its end. */
static int emulate(const struct attempt *a, struct registers *registers)
{
	struct host host = {registers, -1};
	struct emu emu = {
	    .host = &emu_host,
	    .ctx = &host,
	    .gpr = registers->gpr,
	    .rip = &registers->rip,
	    .rflags = &registers->rflags,
	    .segment = bits == 64 ? flat : flat32,
	    .cr0 = 0x80000001,
	    .cr4 = 0x20,
	    .efer = 0xd00,
	    .cpl = 3,
	};
	uint64_t begin = registers->rip;
	struct insn insn;

	if (!insn_decode(a->bytes, a->length, bits == 64 ? INSN_64 : INSN_32, &insn) ||
	    insn.length != a->length)
		return -2;
	do {
		enum emu_result result = emu_execute(&emu, &insn);

		if (result == EMU_UNKNOWN)
			return -2;
		if (result == EMU_FAULT)
			return host.vector;
	} while (registers->rip == begin);
	return -1;
}

/* ------------------------------------------------------------------ the judge */

static void print_attempt(const struct attempt *a)
{
	for (unsigned i = 0; i < a->length; i++)
		printf(" %02x", a->bytes[i]);
	printf(" at %#" PRIx64 ", operand at %#" PRIx64 ", flags %#" PRIx64 "\n", a->registers.rip,
	       a->target, a->registers.rflags);
}

/* SIGSEGV says neither #GP nor #PF nor #SS. */
static int class_of(int vector)
{
	return vector >= 12 && vector <= 14 ? 13 : vector;
}

static const char *differs(const struct attempt *a, int vector, int native,
			   const struct registers *x, const struct registers *y,
			   const uint8_t *memory)
{
	bool defined = native != 0; /* #DE leaves flags undefined, and ours are the old ones */

	if (vector == -2)
		return "unknown to the emulator";
	if (class_of(vector) != class_of(native))
		return "exception";
	for (unsigned i = 0; bits == 32 && i < 8; i++)
		if ((uint32_t)x->gpr[i] != (uint32_t)y->gpr[i])
			return "registers";
	if (bits == 64 && memcmp(x->gpr, y->gpr, sizeof(x->gpr)))
		return "registers";
	if (defined && (x->rflags ^ y->rflags) & FLAGS)
		return "flags";
	if (memcmp(x->xmm, y->xmm, 8 * 16) || memcmp(x->xmm + 16, y->xmm + 16, 8 * 16))
		return "SSE registers";
	if (memcmp(memory, (void *)WINDOW, WINDOW_SIZE))
		return "memory";
	if (vector == -1 && x->rip != attempt_end(a))
		return "RIP";
	return NULL;
}

/* What both made of it. */
struct outcome {
	struct registers ours, theirs;
	int vector, native;
};

/* => returns what differs, or NULL */
static const char *compare(const struct attempt *a, struct outcome *o)
{
	uint8_t memory[WINDOW_SIZE];

	o->ours = o->theirs = a->registers;
	memcpy((void *)WINDOW, a->window, WINDOW_SIZE);
	memcpy((void *)a->registers.rip, a->bytes, a->length);
	o->native = native_run(&o->theirs, a->length, bits);
	memcpy(memory, (void *)WINDOW, WINDOW_SIZE);
	memcpy((void *)WINDOW, a->window, WINDOW_SIZE);
	o->vector = emulate(a, &o->ours);
	return differs(a, o->vector, o->native, &o->ours, &o->theirs, memory);
}

static void report(const struct attempt *a, const struct outcome *o, const char *what)
{
	printf("%s (exception %d, the processor's %d):", what, o->vector, o->native);
	print_attempt(a);
	for (int i = 0; i < 16; i++)
		if (o->ours.gpr[i] != o->theirs.gpr[i])
			printf("  r%d was %#" PRIx64 ": %#" PRIx64 ", the processor's %#" PRIx64
			       "\n",
			       i, a->registers.gpr[i], o->ours.gpr[i], o->theirs.gpr[i]);
	printf("  flags %#" PRIx64 ", the processor's %#" PRIx64 "\n", o->ours.rflags,
	       o->theirs.rflags);
}

/*
 * Where the host of a virtual processor has to step in, once in millions, the instruction may be
 * refused or done wrong, and not the next time. The emulator starts from the same each time and
 * keeps nothing: what it does wrong is wrong again. So a difference counts if it is there in one of
 * two more attempts.
 */
static bool try_one(const struct attempt *a, uint64_t *faults, uint64_t *once)
{
	struct outcome o;
	const char *what = compare(a, &o);

	*faults += o.native >= 0;
	if (!what)
		return true;
	report(a, &o, what);
	if (compare(a, &o) || compare(a, &o))
		return false;
	puts("  but not in two more attempts");
	++*once;
	return true;
}

int main(int argc, char **argv)
{
	uint64_t count = 200000, seed = 1, wrong = 0, done = 0, faults = 0, once = 0;
	struct attempt attempt;

	for (int i = 1; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], "--count"))
			count = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--bits"))
			bits = strcmp(argv[i + 1], "32") ? 64 : 32;
	attempt_init(seed, bits);
	if (bits == 32 && !native_has_32()) {
		puts("test_execute: skipped: this processor runs no code of 32 bits for programs");
		return SKIPPED;
	}
	native_init();
	while (done < count && wrong < 10) {
		if (!attempt_make(&attempt))
			continue;
		done++;
		wrong += !try_one(&attempt, &faults, &once);
	}
	printf("test_execute: %" PRIu64 " instructions of %u bits, %" PRIu64
	       " of them faulted, seed %" PRIu64 ": %" PRIu64 " differ, %" PRIu64
	       " more did once\n",
	       done, bits, faults, seed, wrong, once);
	if (once > ONCE_MAX)
		puts("test_execute: a processor that changes its mind so often proves nothing");
	return wrong != 0 || once > ONCE_MAX;
}
