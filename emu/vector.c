/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SSE and MMX moves between memory and the guest's registers, which the host of the emulator
 * reaches (AMD64 APM vol. 4 and 5). A row of the table is an opcode with its mandatory prefix.
 */
#include "work.h"

enum prefix {
	NONE,
	P66,
	PF3,
	PF2
};

enum action {
	LOAD,      /* 16 bytes */
	LOAD_ZERO, /* fewer; the rest of the register becomes 0 */
	LOAD_LOW,  /* the lower half; the upper one stays */
	LOAD_HIGH,
	LOAD_MM, /* an MMX register */
	STORE,
	STORE_HIGH,
	STORE_MM
};

static const struct move {
	uint8_t opcode, prefix, action, size; /* size 0: 4, or 8 with REX.W */
	bool aligned;
} moves[] = {
    {0x10, NONE, LOAD, 16, false},    /* MOVUPS */
    {0x10, P66, LOAD, 16, false},     /* MOVUPD */
    {0x10, PF3, LOAD_ZERO, 4, false}, /* MOVSS */
    {0x10, PF2, LOAD_ZERO, 8, false}, /* MOVSD */
    {0x11, NONE, STORE, 16, false},    {0x11, P66, STORE, 16, false},
    {0x11, PF3, STORE, 4, false},      {0x11, PF2, STORE, 8, false},
    {0x12, NONE, LOAD_LOW, 8, false}, /* MOVLPS */
    {0x12, P66, LOAD_LOW, 8, false},   {0x13, NONE, STORE, 8, false},
    {0x13, P66, STORE, 8, false},      {0x16, NONE, LOAD_HIGH, 8, false}, /* MOVHPS */
    {0x16, P66, LOAD_HIGH, 8, false},  {0x17, NONE, STORE_HIGH, 8, false},
    {0x17, P66, STORE_HIGH, 8, false}, {0x28, NONE, LOAD, 16, true}, /* MOVAPS */
    {0x28, P66, LOAD, 16, true},       {0x29, NONE, STORE, 16, true},
    {0x29, P66, STORE, 16, true},      {0x2b, NONE, STORE, 16, true},    /* MOVNTPS */
    {0x2b, P66, STORE, 16, true},      {0x6e, P66, LOAD_ZERO, 0, false}, /* MOVD, MOVQ */
    {0x6f, P66, LOAD, 16, true},                                         /* MOVDQA */
    {0x6f, PF3, LOAD, 16, false},                                        /* MOVDQU */
    {0x7e, P66, STORE, 0, false},      {0x7e, PF3, LOAD_ZERO, 8, false}, /* MOVQ */
    {0x7f, P66, STORE, 16, true},      {0x7f, PF3, STORE, 16, false},
    {0xd6, P66, STORE, 8, false},                                       /* MOVQ */
    {0xe7, P66, STORE, 16, true},                                       /* MOVNTDQ */
    {0xf0, PF2, LOAD, 16, false},                                       /* LDDQU */
    {0x6e, NONE, LOAD_MM, 0, false},   {0x6f, NONE, LOAD_MM, 8, false}, /* MOVD, MOVQ */
    {0x7e, NONE, STORE_MM, 0, false},  {0x7f, NONE, STORE_MM, 8, false},
    {0xe7, NONE, STORE_MM, 8, false}, /* MOVNTQ */
};

static const struct move *find(const struct insn *insn)
{
	unsigned prefix = insn->repne ? PF2 : insn->rep ? PF3 : insn->operand_prefix ? P66 : NONE;

	if (!insn->memory)
		return NULL;
	for (unsigned i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		if (moves[i].opcode == insn->opcode && moves[i].prefix == prefix)
			return &moves[i];
	return NULL;
}

/* CR0.EM, CR4.OSFXSR or CR0.TS against it: the processor looked before it touched memory. */
enum emu_result vector_execute(struct work *w)
{
	const struct move *move = find(w->insn);
	struct emu *emu = w->emu;
	uint8_t value[16] = {0};
	unsigned reg = w->insn->reg, at = 0;

	if (!move)
		return EMU_UNKNOWN;
	w->size = move->size ? move->size : w->insn->size == 8 ? 8 : 4;
	if (move->action == LOAD_MM || move->action == STORE_MM)
		reg = EMU_MM + (reg & 7);
	if (move->aligned && emu_address(emu, w->insn) & 15)
		return emu_raise(emu, VECTOR_GP, 0);
	if (move->action >= STORE) {
		TRY(operand_find(w, EMU_WRITE));
		emu->host->xmm_read(emu->ctx, reg, value);
		operand_store_bytes(emu, &w->operand, value + (move->action == STORE_HIGH ? 8 : 0));
		return EMU_DONE;
	}
	TRY(operand_find(w, EMU_READ));
	if (move->action == LOAD_LOW || move->action == LOAD_HIGH)
		emu->host->xmm_read(emu->ctx, reg, value);
	if (move->action == LOAD_HIGH)
		at = 8;
	operand_load_bytes(emu, &w->operand, value + at);
	emu->host->xmm_write(emu->ctx, reg, value);
	return EMU_DONE;
}
