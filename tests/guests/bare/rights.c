/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every right of a page: P, W, U, NX, A, D of its entry; W, U, NX of the entry above; read, write,
 * fetch; ring 0 and 3; CR0.WP, SMEP, SMAP, EFLAGS.AC. Each is tried twice; the fault with its error
 * code and the accessed and dirty bits are what the manual says (AMD64 APM vol. 2 §5.6, SDM vol. 3
 * §4.6, 4.7).
 */
#include "bare.h"

#define TARGET 0x200000000ull /* the page under test */
#define STUBS  0x300000000ull /* a user's page: read at 0, write at 16 */
#define STACK  0x300002000ull

enum kind {
	READ,
	WRITE,
	FETCH
};

static const uint8_t stubs[32] = {
    0x48, 0x8b, 0x07, 0xcd, 0x30, [16] = 0x48, 0x89, 0x3f, 0xcd, 0x30};
static uint64_t tried;

/* What the manual says: RETURNED or PF, and the error code. */
static unsigned expected(uint64_t leaf, uint64_t above, enum kind kind, bool user, bool wp,
			 bool smep, bool smap, bool ac, uint64_t *error)
{
	bool all_w = leaf & above & W, all_u = leaf & above & U, nx = (leaf | above) & NX;
	bool allowed = true;

	*error = (kind == WRITE ? 2 : 0) | (user ? 4 : 0) | (kind == FETCH ? 16 : 0);
	if (!(leaf & P))
		return PF;
	*error |= 1;
	if (user && !all_u)
		allowed = false;
	if (kind == WRITE && !all_w && (user || wp))
		allowed = false;
	if (kind == FETCH && (nx || (!user && all_u && smep)))
		allowed = false;
	if (kind != FETCH && !user && all_u && smap && !ac)
		allowed = false;
	return allowed ? RETURNED : PF;
}

static void try(uint64_t *leaf, uint64_t *above, uint64_t bits, uint64_t above_bits, uint64_t page,
		uint64_t table, enum kind kind, bool user, unsigned control)
{
	bool wp = control & 1, smep = control & 2, smap = control & 4, ac = control & 8;
	uint64_t flags = FLAGS | (ac ? EFLAGS_AC : 0), error, want, rip;
	unsigned vector = expected(bits, above_bits, kind, user, wp, smep, smap, ac, &error);

	*leaf = page | bits;
	*above = table | above_bits | P;
	invlpg(TARGET);
	rip = kind == FETCH ? TARGET : STUBS + (kind == WRITE ? 16 : 0);
	for (int again = 0; again < 2; again++) {
		struct outcome o;

		/* Ring 0 runs the same bytes where ring 3 cannot see them. */
		if (!user && kind != FETCH)
			rip = (uintptr_t)stubs + (kind == WRITE ? 16 : 0);
		o = attempt(user ? 3 : 0, rip, TARGET, user ? STACK : 0, flags);
		EXPECT(
		    o.vector == vector && (vector != PF || (o.error == error && o.cr2 == TARGET)),
		    "leaf %x above %x kind %u user %u control %x: %u, error %x, cr2 %x; not %u, %x",
		    bits, above_bits, (uint64_t)kind, (uint64_t)user, (uint64_t)control,
		    (uint64_t)o.vector, o.error, o.cr2, (uint64_t)vector, error);
		want = bits | (vector == RETURNED ? A | (kind == WRITE ? D : 0) : 0);
		EXPECT(*leaf == (page | want), "leaf %x became %x, not %x", bits, *leaf & ~PFN,
		       want);
		tried++;
	}
	/* The fetched bytes, or the written word, are the page's. */
	WORD(page) = 0x30cd;
}

int main(void)
{
	uint64_t root = root_new(), page = page_new(), code = page_new();
	uint64_t *leaf = entry(root, TARGET, 1), *above = entry(root, TARGET, 2);
	uint64_t table = *above & PFN, cr4 = cr4_read();
	bool has_smep = has_leaf7_ebx(7), has_smap = has_leaf7_ebx(20);

	for (unsigned i = 0; i < sizeof(stubs); i++)
		((volatile uint8_t *)code)[i] = stubs[i];
	WORD(page) = 0x30cd; /* int $0x30 */
	*entry(root, STUBS, 1) = code | P | U;
	*entry(root, STACK - 4096, 1) = page_new() | P | W | U;
	*entry(root, TARGET, 4) |= U;
	cr3_write(root);
	for (unsigned control = 0; control < 16; control++) {
		if ((control & 2 && !has_smep) || (control & 4 && !has_smap))
			continue;
		cr0_write((cr0_read() & ~CR0_WP) | (control & 1 ? CR0_WP : 0));
		cr4_write(cr4 | (control & 2 ? CR4_SMEP : 0) | (control & 4 ? CR4_SMAP : 0));
		for (unsigned bits = 0; bits < 64; bits++)
			for (unsigned high = 0; high < 8; high++)
				for (unsigned who = 0; who < 6; who++)
					try(leaf, above,
					    (bits & 1 ? P : 0) | (bits & 2 ? W : 0) |
						(bits & 4 ? U : 0) | (bits & 8 ? A : 0) |
						(bits & 16 ? D : 0) | (bits & 32 ? NX : 0),
					    (high & 1 ? W : 0) | (high & 2 ? U : 0) |
						(high & 4 ? NX : 0),
					    page, table, (enum kind)(who % 3), who >= 3, control);
	}
	say("guest: %u rights hold\r\n", tried);
	return 0;
}
