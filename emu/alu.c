/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arithmetic of the emulator. The processor itself computes result and flags, at the guest's
 * operand size, with the guest's flags loaded: no second description of them to get wrong. (Built
 * without a red zone, since the flags pass over the stack.)
 */
#include "work.h"

/* @text works on %0 (read and written) and %1, with the flags @f; a count is in CL. */
#define RUN(text, type)                                                       \
	do {                                                                  \
		type x = (type)a, y = (type)b;                                \
		__asm__ volatile("pushq %2; popfq; " text "; pushfq; popq %2" \
				 : "+&q"(x), "+&q"(y), "+&r"(f)               \
				 : "c"((uint8_t)count)                        \
				 : "cc", "memory");                           \
		result = x;                                                   \
	} while (0)

#define SIZES(text)                          \
	do {                                 \
		if (size == 1)               \
			RUN(text, uint8_t);  \
		else if (size == 2)          \
			RUN(text, uint16_t); \
		else if (size == 4)          \
			RUN(text, uint32_t); \
		else                         \
			RUN(text, uint64_t); \
	} while (0)

/* Of 2 bytes and more. */
#define WORDS(text)                          \
	do {                                 \
		if (size == 2)               \
			RUN(text, uint16_t); \
		else if (size == 4)          \
			RUN(text, uint32_t); \
		else                         \
			RUN(text, uint64_t); \
	} while (0)

#define BINARY(mnemonic) SIZES(mnemonic " %1, %0")
#define SHIFT(mnemonic)  SIZES(mnemonic " %%cl, %0")

static uint64_t flags_in(uint64_t flags)
{
	return (flags & FLAG_ARITHMETIC) | 2;
}

static void flags_out(uint64_t *flags, uint64_t f)
{
	*flags = (*flags & ~FLAG_ARITHMETIC) | (f & FLAG_ARITHMETIC);
}

uint64_t alu(unsigned operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0;
	unsigned count = 0;

	switch (operation) {
	case ALU_ADD:
		BINARY("add");
		break;
	case ALU_OR:
		BINARY("or");
		break;
	case ALU_ADC:
		BINARY("adc");
		break;
	case ALU_SBB:
		BINARY("sbb");
		break;
	case ALU_AND:
		BINARY("and");
		break;
	case ALU_SUB:
		BINARY("sub");
		break;
	case ALU_XOR:
		BINARY("xor");
		break;
	default:
		BINARY("cmp");
		break;
	}
	flags_out(flags, f);
	return result;
}

uint64_t alu_step(int by, unsigned size, uint64_t a, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0, b = 0;
	unsigned count = 0;

	if (by > 0)
		SIZES("inc %0");
	else
		SIZES("dec %0");
	flags_out(flags, f);
	return result;
}

uint64_t alu_negate(unsigned size, uint64_t a, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0, b = 0;
	unsigned count = 0;

	SIZES("neg %0");
	flags_out(flags, f);
	return result;
}

uint64_t alu_shift(unsigned operation, unsigned size, uint64_t a, unsigned count, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0, b = 0;

	switch (operation) {
	case 0:
		SHIFT("rol");
		break;
	case 1:
		SHIFT("ror");
		break;
	case 2:
		SHIFT("rcl");
		break;
	case 3:
		SHIFT("rcr");
		break;
	case 5:
		SHIFT("shr");
		break;
	case 7:
		SHIFT("sar");
		break;
	default:
		SHIFT("shl");
		break;
	}
	flags_out(flags, f);
	return result;
}

uint64_t alu_shift_double(bool right, unsigned size, uint64_t a, uint64_t b, unsigned count,
			  uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0;

	if (right)
		WORDS("shrd %%cl, %1, %0");
	else
		WORDS("shld %%cl, %1, %0");
	flags_out(flags, f);
	return result;
}

uint64_t alu_multiply_2(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0;
	unsigned count = 0;

	WORDS("imul %1, %0");
	flags_out(flags, f);
	return result;
}

uint64_t alu_scan(enum alu_scan which, unsigned size, uint64_t old, uint64_t a, uint64_t *flags)
{
	uint64_t f = flags_in(*flags), result = 0, b = a;
	unsigned count = 0;

	a = old;
	switch (which) {
	case ALU_BSF:
		WORDS("bsf %1, %0");
		break;
	case ALU_BSR:
		WORDS("bsr %1, %0");
		break;
	case ALU_POPCNT:
		WORDS("popcnt %1, %0");
		break;
	case ALU_TZCNT:
		WORDS("tzcnt %1, %0");
		break;
	default:
		WORDS("lzcnt %1, %0");
		break;
	}
	flags_out(flags, f);
	return result;
}

/* @text works on RAX, RDX and %2. */
#define WIDE(text, type)                                                         \
	do {                                                                     \
		type d = (type)b;                                                \
		__asm__ volatile("pushq %3; popfq; " text " %2; pushfq; popq %3" \
				 : "+&a"(l), "+&d"(h), "+&q"(d), "+&r"(f)        \
				 :                                               \
				 : "cc", "memory");                              \
	} while (0)

#define WIDE_SIZES(text)                      \
	do {                                  \
		if (size == 1)                \
			WIDE(text, uint8_t);  \
		else if (size == 2)           \
			WIDE(text, uint16_t); \
		else if (size == 4)           \
			WIDE(text, uint32_t); \
		else                          \
			WIDE(text, uint64_t); \
	} while (0)

void alu_multiply(bool with_sign, unsigned size, uint64_t *low, uint64_t *high, uint64_t b,
		  uint64_t *flags)
{
	uint64_t f = flags_in(*flags), l = *low, h = *high;

	if (with_sign)
		WIDE_SIZES("imul");
	else
		WIDE_SIZES("mul");
	*low = l;
	*high = h;
	flags_out(flags, f);
}

/* Whether high:low / @b has a quotient of @size bytes; all without sign. */
static bool is_divisible(unsigned size, uint64_t low, uint64_t high, uint64_t b)
{
	uint64_t mask = size_mask(size);

	if (size == 1)
		high = low >> 8;
	return (high & mask) < (b & mask);
}

/* The same with sign: the magnitude's quotient is at most 2^(n-1) - 1, or 2^(n-1) if negative. */
static bool is_divisible_signed(unsigned size, uint64_t low, uint64_t high, uint64_t b)
{
	uint64_t mask = size_mask(size), divisor, quotient, rest, limit = mask >> 1;
	bool minus, minus_b = sign_extend(b, size) < 0;

	if (size == 1)
		high = low >> 8;
	low &= mask;
	high &= mask;
	minus = high >> (8 * size - 1);
	if (minus) {
		low = (0 - low) & mask;
		high = (~high + !low) & mask;
	}
	divisor = (minus_b ? 0 - b : b) & mask;
	if (high >= divisor)
		return false;
	if (size == 8) {
		__asm__("divq %4"
			: "=a"(quotient), "=d"(rest)
			: "0"(low), "1"(high), "r"(divisor)
			: "cc");
	} else {
		quotient = (high << 8 * size | low) / divisor;
	}
	return quotient <= limit + (minus != minus_b);
}

bool alu_divide(bool with_sign, unsigned size, uint64_t *low, uint64_t *high, uint64_t b,
		uint64_t *flags)
{
	uint64_t f = flags_in(*flags), l = *low, h = *high;

	if (with_sign ? !is_divisible_signed(size, l, h, b) : !is_divisible(size, l, h, b))
		return false;
	if (with_sign)
		WIDE_SIZES("idiv");
	else
		WIDE_SIZES("div");
	*low = l;
	*high = h;
	flags_out(flags, f);
	return true;
}

bool alu_condition(unsigned code, uint64_t flags)
{
	bool sign = !(flags & FLAG_SF) != !(flags & FLAG_OF), holds;

	switch (code >> 1) {
	case 0:
		holds = flags & FLAG_OF;
		break;
	case 1:
		holds = flags & FLAG_CF;
		break;
	case 2:
		holds = flags & FLAG_ZF;
		break;
	case 3:
		holds = flags & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		holds = flags & FLAG_SF;
		break;
	case 5:
		holds = flags & FLAG_PF;
		break;
	case 6:
		holds = sign;
		break;
	default:
		holds = sign || flags & FLAG_ZF;
		break;
	}
	return holds != (code & 1);
}
