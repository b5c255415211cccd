/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The decoder against Zydis: random instructions for 16-, 32- and 64-bit code, byte strings made
 * so that each opcode of each map comes with every kind of prefix, ModRM and SIB byte. Where Zydis
 * knows an instruction, so do we, with the same length, operand and address size, registers,
 * segment, displacement and immediates.
 *
 * test_decode [--count N] [--seed N]
 */
#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"

static uint64_t state;

static uint64_t random_word(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull;
}

/* Prefixes, opcode of a random map, and whatever behind it. */
static void generate(uint8_t bytes[INSN_MAX])
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36,
					   0x3e, 0x26, 0x64, 0x65, 0x48, 0x44, 0x41};
	unsigned at = 0, map = random_word() % 4, count = random_word() % 8;

	count = count < 3 ? 0 : count < 6 ? 1 : count - 4;
	while (count--)
		bytes[at++] = prefixes[random_word() % sizeof(prefixes)];
	if (random_word() % 4 == 0)
		bytes[at++] = 0x40 | (random_word() & 15);
	if (map)
		bytes[at++] = 0x0f;
	if (map > 1 && random_word() % 4 == 0)
		bytes[at++] = map == 2 ? 0x38 : 0x3a;
	while (at < INSN_MAX)
		bytes[at++] = (uint8_t)(random_word() >> 13);
}

/* Encodings that the decoder does not take: VEX, EVEX, XOP, 3DNow!, MPX, PadLock. */
static bool is_foreign(const ZydisDecodedInstruction *z)
{
	return z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	       z->meta.isa_ext == ZYDIS_ISA_EXT_MPX ||
	       z->meta.isa_set == ZYDIS_ISA_SET_PADLOCK_ACE ||
	       z->meta.isa_set == ZYDIS_ISA_SET_PADLOCK_PHE ||
	       z->meta.isa_set == ZYDIS_ISA_SET_PADLOCK_PMM ||
	       z->meta.isa_set == ZYDIS_ISA_SET_PADLOCK_RNG;
}

static uint64_t mask_of(unsigned bits)
{
	return bits == 64 ? ~0ull : (1ull << bits) - 1;
}

static int gpr_of(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return -1;
	return ZydisRegisterGetId(reg);
}

static int segment_of(ZydisRegister reg)
{
	return ZydisRegisterGetId(reg);
}

/*
 * A SIB byte without a base, REX.B set, 32-bit addresses: Zydis 4.0 names R13D. The processor has
 * none there (APM vol. 3 §1.2.7; test_execute runs it).
 */
static bool is_baseless(const ZydisDecodedInstruction *z)
{
	return z->address_width == 32 && z->raw.modrm.mod == 0 && z->raw.modrm.rm == 4 &&
	       z->raw.sib.base == 5;
}

static const char *differs(const struct insn *insn, const ZydisDecodedInstruction *z,
			   const ZydisDecodedOperand *operands)
{
	const ZydisDecodedOperand *memory = NULL;

	if (insn->length != z->length)
		return "length";
	if (insn->address_size * 8 != z->address_width && (insn->memory || !insn->has_modrm))
		return "address size";
	if (insn->has_modrm != !!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
		return "ModRM";
	if (insn->has_modrm && insn->mod != 3 &&
	    ((insn->reg & 7) != z->raw.modrm.reg || (insn->rm & 7) != z->raw.modrm.rm))
		return "ModRM's fields";
	if (z->raw.imm[0].size &&
	    (insn->immediate ^ z->raw.imm[0].value.u) & mask_of(z->raw.imm[0].size))
		return "immediate";
	if (z->raw.imm[1].size && insn->immediate2 != z->raw.imm[1].value.u)
		return "second immediate";
	for (unsigned i = 0; i < z->operand_count && !memory; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			memory = &operands[i];
	if (!memory || !insn->memory || memory->mem.type == ZYDIS_MEMOP_TYPE_MIB)
		return NULL;
	if (insn->rip_relative !=
	    (memory->mem.base == ZYDIS_REGISTER_RIP || memory->mem.base == ZYDIS_REGISTER_EIP))
		return "RIP-relative";
	if (!insn->rip_relative && insn->base != gpr_of(memory->mem.base) && !is_baseless(z))
		return "base";
	if (insn->index != gpr_of(memory->mem.index))
		return "index";
	if (insn->index >= 0 && 1u << insn->scale != memory->mem.scale)
		return "scale";
	if (memory->mem.disp.has_displacement &&
	    ((uint64_t)(insn->displacement ^ memory->mem.disp.value) & mask_of(z->address_width)))
		return "displacement";
	/* LEA has none; before an indirect branch 3E may mean something to CET. */
	if (memory->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
	    !(z->attributes & ZYDIS_ATTRIB_HAS_NOTRACK) &&
	    insn->segment != segment_of(memory->mem.segment))
		return "segment";
	return NULL;
}

/*
 * The operand size, where Zydis says it of the whole instruction and not of a part. Left out is
 * what means nothing to the instruction (MOV of control registers, LOOP, IN, CMPXCHG8B), and
 * branches of 64-bit code with an operand-size prefix: AMD's processors heed it, Intel's do not.
 */
static bool size_differs(const struct insn *insn, const ZydisDecodedInstruction *z)
{
	static const uint8_t one_byte[] = {0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe7, 0xed, 0xef, 0x63};
	static const uint8_t two_byte[] = {0x20, 0x21, 0x22, 0x23, 0x05, 0xc7, 0x1e};

	if (z->operand_width == 8 || insn->map > 1 || z->meta.category == ZYDIS_CATEGORY_SYSTEM ||
	    z->meta.isa_ext != ZYDIS_ISA_EXT_BASE)
		return false;
	if (insn->mode == INSN_64 && insn->operand_prefix &&
	    z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		return false;
	if (insn->map ? !!memchr(two_byte, insn->opcode, sizeof(two_byte))
		      : !!memchr(one_byte, insn->opcode, sizeof(one_byte)))
		return false;
	return insn->size * 8 != z->operand_width;
}

static bool compare(ZydisDecoder *decoder, enum insn_mode mode, const uint8_t *bytes,
		    uint64_t *valid)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct insn insn;
	const char *what;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, INSN_MAX, &z, operands)) ||
	    is_foreign(&z))
		return true;
	++*valid;
	if (!insn_decode(bytes, INSN_MAX, mode, &insn))
		what = "refused";
	else
		what = differs(&insn, &z, operands);
	if (!what && size_differs(&insn, &z))
		what = "operand size";
	if (!what)
		return true;
	printf("mode %u, %s:", mode == INSN_16 ? 16u : mode == INSN_32 ? 32u : 64u, what);
	for (unsigned i = 0; i < INSN_MAX; i++)
		printf(" %02x", bytes[i]);
	for (unsigned i = 0; i < z.operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			printf(" [%s %s]", ZydisRegisterGetString(operands[i].mem.base),
			       ZydisRegisterGetString(operands[i].mem.index));
	printf(" (%s, %u bytes, operand %u, address %u); ours: %u bytes, operand %u, address %u\n",
	       ZydisMnemonicGetString(z.mnemonic), z.length, z.operand_width, z.address_width,
	       insn.length, insn.size * 8, insn.address_size * 8);
	return false;
}

int main(int argc, char **argv)
{
	static const struct {
		ZydisMachineMode machine;
		ZydisStackWidth stack;
	} modes[] = {
	    [INSN_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
	    [INSN_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
	    [INSN_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
	};
	uint64_t count = 1000000, seed = 1, valid = 0, wrong = 0;
	ZydisDecoder decoders[3];

	for (int i = 1; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], "--count"))
			count = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	for (unsigned i = 0; i < 3; i++) {
		ZydisDecoderInit(&decoders[i], modes[i].machine, modes[i].stack);
		ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
	}
	for (uint64_t i = 0; valid < count && wrong < 20; i++) {
		uint8_t bytes[INSN_MAX];

		generate(bytes);
		wrong += !compare(&decoders[i % 3], (enum insn_mode)(i % 3), bytes, &valid);
	}
	printf("test_decode: %" PRIu64 " instructions that Zydis knows, seed %" PRIu64 ": %" PRIu64
	       " differ\n",
	       valid, seed, wrong);
	return wrong != 0;
}
