/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction emulator: carries out one instruction that a guest's processor could not, since
 * it touches a device or a page that must not be written unseen. It knows registers and
 * instructions; what memory is, its host tells it. Freestanding, without state of its own.
 *
 * All operands are translated before anything changes, in the order in which the processor would,
 * so that an instruction is carried out whole or raises the guest's fault with nothing done.
 * A repeated string instruction is one step after another, as on the processor.
 *
 * What it does not know it refuses (EMU_UNKNOWN) with nothing changed; it never guesses.
 */
#ifndef EMU_EMU_H
#define EMU_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "insn.h"

enum emu_result {
	EMU_DONE,    /* carried out; RIP is behind it, or still at it: a REP that goes on */
	EMU_FAULT,   /* raised (emu_host.raise), or the host wants the guest entered again first */
	EMU_UNKNOWN, /* not one that the emulator knows; nothing has changed */
};

/* A segment register as the processor caches it (AMD64 APM vol. 2 §4.5, §15.5.1). */
struct emu_segment {
	uint16_t selector;
	uint16_t attributes; /* bits 0-7: type, S, DPL, P; 8-11: AVL, L, D, G */
	uint32_t limit;      /* in bytes */
	uint64_t base;
};

#define EMU_SEGMENT_P (1u << 7)
#define EMU_SEGMENT_L (1u << 9)
#define EMU_SEGMENT_D (1u << 10)

/* Access kinds; the host adds what follows from CPL and RFLAGS. */
#define EMU_MM     16u
#define EMU_READ   0u
#define EMU_WRITE  1u
#define EMU_SYSTEM 2u /* by the processor itself, whatever the CPL: descriptor tables */

/* Where a linear address leads. */
struct emu_place {
	uint64_t gpa;
	uint8_t *va; /* memory, up to the end of the page; NULL: a device, or nothing */
};

struct emu_host {
	/* @linear for an access of @kind. EMU_FAULT: a #PF is raised, or to be tried again. */
	enum emu_result (*translate)(void *ctx, uint64_t linear, unsigned kind,
				     struct emu_place *place);
	/* Where no memory is: @size 1, 2, 4 or 8, aligned. */
	uint64_t (*device_read)(void *ctx, uint64_t gpa, unsigned size);
	void (*device_write)(void *ctx, uint64_t gpa, unsigned size, uint64_t value);
	/* An operand in memory was found at @linear; NULL: nobody wants to know. */
	void (*accessed)(void *ctx, uint64_t linear, size_t size, bool write);
	/* Memory at @gpa was written. */
	void (*written)(void *ctx, uint64_t gpa, size_t size);
	/* Exception @vector; @error < 0: without an error code. */
	void (*raise)(void *ctx, unsigned vector, int64_t error);
	/*
	 * The guest's SSE registers, which stay in the processor: 16 bytes. EMU_MM and the seven
	 * behind it are the MMX registers: 8 bytes, and the x87 stack becomes theirs.
	 */
	void (*xmm_read)(void *ctx, unsigned reg, void *value);
	void (*xmm_write)(void *ctx, unsigned reg, const void *value);
	/* @size 1, 2 or 4. The right to the port has been checked. */
	uint32_t (*port_read)(void *ctx, uint16_t port, unsigned size);
	void (*port_write)(void *ctx, uint16_t port, unsigned size, uint32_t value);
};

/* A guest's processor, for one instruction. The pointers lead to where its registers are kept. */
struct emu {
	const struct emu_host *host;
	void *ctx;
	uint64_t *gpr; /* 16, in the processor's numbering */
	uint64_t *rip, *rflags;
	const struct emu_segment *segment; /* ES CS SS DS FS GS */
	uint64_t cr0, cr4, efer;
	unsigned cpl;
};

/* What kind of code CS holds. */
enum insn_mode emu_mode(const struct emu *emu);

/* Linear address of the instruction at RIP. */
uint64_t emu_linear_rip(const struct emu *emu);

/*
 * Carry @insn, the instruction at RIP, out. Afterwards RIP is behind it (EMU_DONE; with RF and
 * interrupt shadow the caller's to clear), unless a REP has more to do.
 */
enum emu_result emu_execute(struct emu *emu, const struct insn *insn);

/*
 * Linear address of @insn's memory operand: APM vol. 1 §2.2.2. Not checked against limits.
 */
uint64_t emu_address(const struct emu *emu, const struct insn *insn);

/* @size bytes at @linear, read or written by the processor itself: a descriptor, say. */
enum emu_result emu_system(struct emu *emu, uint64_t linear, void *bytes, unsigned size,
			   unsigned kind);

/* Read or write @size bytes (at most 16) of memory for @insn, with all checks. */
enum emu_result emu_read(struct emu *emu, const struct insn *insn, void *to, unsigned size);
enum emu_result emu_write(struct emu *emu, const struct insn *insn, const void *from,
			  unsigned size);

/* Register operands of @size bytes, the high-byte registers and zero extension included. */
uint64_t emu_register(const struct emu *emu, const struct insn *insn, unsigned reg, unsigned size);
void emu_register_set(struct emu *emu, const struct insn *insn, unsigned reg, unsigned size,
		      uint64_t value);

#endif
