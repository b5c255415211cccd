/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arithmetic of the emulator. The processor itself computes result and flags, at the guest's
 * operand size, with the guest's flags loaded: no second description of them to get wrong.
 */
#include "emulate.h"
#include "x86.h"

#define RUN(mnemonic, type)                                                              \
	do {                                                                             \
		type x = (type)a, y = (type)b;                                           \
		__asm__ volatile("pushq %2; popfq; " mnemonic " %1, %0; pushfq; popq %2" \
				 : "+q"(x), "+q"(y), "+r"(f)                             \
				 :                                                       \
				 : "cc", "memory");                                      \
		result = x;                                                              \
	} while (0)

#define SIZES(mnemonic)                          \
	do {                                     \
		if (size == 1)                   \
			RUN(mnemonic, uint8_t);  \
		else if (size == 2)              \
			RUN(mnemonic, uint16_t); \
		else if (size == 4)              \
			RUN(mnemonic, uint32_t); \
		else                             \
			RUN(mnemonic, uint64_t); \
	} while (0)

uint64_t alu(unsigned operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
	uint64_t f = (*flags & RFLAGS_ARITHMETIC) | 2, result = 0;

	switch (operation) {
	case 0:
		SIZES("add");
		break;
	case 1:
		SIZES("or");
		break;
	case 2:
		SIZES("adc");
		break;
	case 3:
		SIZES("sbb");
		break;
	case 4:
		SIZES("and");
		break;
	case 5:
		SIZES("sub");
		break;
	case 6:
		SIZES("xor");
		break;
	default:
		SIZES("cmp");
		break;
	}
	*flags = (*flags & ~RFLAGS_ARITHMETIC) | (f & RFLAGS_ARITHMETIC);
	return result;
}
