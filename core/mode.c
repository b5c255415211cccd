/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of paging modes. AMD64 APM vol. 2 §5.2 (32-bit and PAE), §5.3 (long mode); Intel SDM
 * vol. 3 §4.3 to §4.5, tables 4-4 to 4-20, where the two differ or AMD is silent.
 *
 * Lock: none; everything here is constant, or its caller's.
 */
#include <umbra/umbra.h>

#include "mode.h"

#define BITS(high, low) ((~0ull >> (63 - (high))) & (~0ull << (low)))

#define PSE36_HIGH BITS(20, 13)

const struct mode
    modes[MODES] =
	{
	    [MODE_OFF] = {.shadow_root = 2, .entry_shift = 3, .sign = BITS(63, 32)},
	    [MODE_32] =
		{
		    .root = 2,
		    .shadow_root = 2,
		    .entry_shift = 2,
		    .parts = true,
		    .cr3 = BITS(31, 12),
		    .sign = BITS(63, 32),
		    .level =
			{
			    [1] = {.shift = 12, .bits = 10},
			    [2] = {.shift = 22, .bits = 10},
			},
		},
	    [MODE_PSE] =
		{
		    .root = 2,
		    .shadow_root = 2,
		    .entry_shift = 2,
		    .parts = true,
		    .cr3 = BITS(31, 12),
		    .sign = BITS(63, 32),
		    .level =
			{
			    [1] = {.shift = 12, .bits = 10},
			    [2] = {.shift = 22,
				   .bits = 10,
				   .leaf = true,
				   .reserved_leaf = BITS(21, 21),
				   .high = PSE36_HIGH},
			},
		},
	    [MODE_PAE] =
		{
		    .root = 3,
		    .shadow_root = 2,
		    .entry_shift = 3,
		    .cr3 = BITS(31, 5),
		    .sign = BITS(63, 32),
		    .level =
			{
			    [1] = {.shift = 12, .bits = 9, .reserved = BITS(62, 52)},
			    [2] = {.shift = 21,
				   .bits = 9,
				   .leaf = true,
				   .reserved = BITS(62, 52),
				   .reserved_leaf = BITS(20, 13)},
			    [3] = {.shift = 30,
				   .bits = 2,
				   .bare = true,
				   .reserved = BITS(63, 52) | BITS(8, 5) | BITS(2, 1)},
			},
		},
	    [MODE_4] =
		{
		    .root = 4,
		    .shadow_root = 4,
		    .entry_shift = 3,
		    .keys = true,
		    .cr3 = BITS(51, 12),
		    .sign = BITS(63, 47),
		    .level =
			{
			    [1] = {.shift = 12, .bits = 9},
			    [2] = {.shift = 21,
				   .bits = 9,
				   .leaf = true,
				   .reserved_leaf = BITS(20, 13)},
			    [3] = {.shift = 30,
				   .bits = 9,
				   .leaf = true,
				   .reserved_leaf = BITS(29, 13),
				   .reserved_table = PTE_G},
			    [4] = {.shift = 39,
				   .bits = 9,
				   .reserved = PTE_PS,
				   .reserved_table = PTE_G},
			},
		},
	    [MODE_5] =
		{
		    .root = 5,
		    .shadow_root = 5,
		    .entry_shift = 3,
		    .keys = true,
		    .cr3 = BITS(51, 12),
		    .sign = BITS(63, 56),
		    .level =
			{
			    [1] = {.shift = 12, .bits = 9},
			    [2] = {.shift = 21,
				   .bits = 9,
				   .leaf = true,
				   .reserved_leaf = BITS(20, 13)},
			    [3] = {.shift = 30,
				   .bits = 9,
				   .leaf = true,
				   .reserved_leaf = BITS(29, 13),
				   .reserved_table = PTE_G},
			    [4] = {.shift = 39,
				   .bits = 9,
				   .reserved = PTE_PS,
				   .reserved_table = PTE_G},
			    [5] = {.shift = 48,
				   .bits = 9,
				   .reserved = PTE_PS,
				   .reserved_table = PTE_G},
			},
		},
};

/* Of bits 20:13 of a 4 MiB page, which have no place in an address (SDM vol. 3 table 4-4). */
static uint64_t high_reserved(const struct level *level, unsigned maxphyaddr, uint32_t cpu)
{
	uint64_t there = cpu & UMBRA_CPU_NO_PSE36 ? 0 : (1ull << maxphyaddr) - 1;

	return level->high & ~(there >> 19);
}

void mode_reserved_make(struct reserved *reserved, unsigned maxphyaddr, uint32_t cpu)
{
	const uint64_t beyond = PTE_ADDRESS & ~((1ull << maxphyaddr) - 1);

	for (unsigned i = 0; i < MODES * (LEVELS_MAX + 1) * 2; i++) {
		unsigned mode = i / 2 / (LEVELS_MAX + 1), at = i / 2 % (LEVELS_MAX + 1);
		const struct level *level = &modes[mode].level[at];
		uint64_t *of = reserved->of[mode][at][i % 2];

		of[0] = beyond | level->reserved | (i % 2 ? 0 : PTE_NX);
		of[1] = of[0] | level->reserved_leaf | high_reserved(level, maxphyaddr, cpu);
		if (cpu & UMBRA_CPU_AMD)
			of[0] |= level->reserved_table;
		if (cpu & UMBRA_CPU_NO_1G && level->leaf && level->shift == 30)
			of[1] |= PTE_PS;
	}
}

/* Set a guest's entry to @new if it is @old. */
bool mode_entry_exchange(enum paging_mode mode, void *entry, uint64_t old, uint64_t new)
{
	if (modes[mode].entry_shift == 2) {
		uint32_t expected = (uint32_t)old;

		return atomic_compare_exchange_strong((_Atomic uint32_t *)entry, &expected,
						      (uint32_t) new);
	}
	return atomic_compare_exchange_strong((_Atomic uint64_t *)entry, &old, new);
}
