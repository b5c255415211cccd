/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction emulator on a host that keeps to emu.h and watches that the emulator does. The
 * input chooses a processor's mode and what lies in eight pages, which repeat through the address
 * space; then come instructions, each after changes of the processor's state:
 *
 *     mode 1, pages 4, then until the end: changes 1, changes of 2 or more, length 1, instruction
 *
 * What is not known, or faults, changes nothing (a repetition: nothing of the element that faults);
 * no store escapes the host; devices see accesses that they can answer; the decoder reads what it
 * is given and no more, and what lies behind an instruction does not matter to it.
 */
#include <string.h>

#include "check.h"
#include "emu.h"
#include "input.h"

#define PAGE         4096u
#define PAGES        8u /* in the address space, over and over */
#define FRAMES       4u
#define DEVICE       0xfe000000ull /* gpa of what is no memory, a page each */
#define INSTRUCTIONS 64u
#define STEPS        4u    /* of a repetition that goes on */
#define CALLS_MAX    8192u /* of the host by one step: 512 elements, some calls each */
#define ARITHMETIC   0x8d5ull
#define REP_GPRS     0xc3u /* RAX, RCX, RSI, RDI */

#define CR0_PE   (1ull << 0)
#define CR0_AM   (1ull << 18)
#define CR0_PG   (1ull << 31)
#define CR4_LA57 (1ull << 12)
#define EFER_LMA (1ull << 10)
#define FLAG_DF  (1ull << 10)
#define FLAG_VM  (1ull << 17)
#define FLAG_AC  (1ull << 18)

/* What lies in a page; below: the frame of that number. */
enum page {
	PAGE_DEVICE = FRAMES,
	PAGE_FAULTS,
	PAGE_FAULTS_WRITTEN,
	PAGE_READ_ONLY, /* frame 0; what is written goes the way of devices */
	PAGE_KINDS
};

struct state {
	uint64_t gpr[16], rip, rflags;
	uint8_t xmm[24][16];
};

struct host {
	struct emu emu;
	struct state state;
	struct emu_segment segments[6];
	uint8_t pages[PAGES];
	uint8_t *frames[FRAMES];      /* each a block of its own */
	uint8_t mirror[FRAMES][PAGE]; /* as far as the host was told */
	uint32_t answers;             /* what devices and ports read as */

	/* Since the step began. */
	unsigned calls, raised, refused, stores, xmm_stores, ports;
	bool frame_written[FRAMES], device_found[PAGES], device_written[PAGES];
};

/* ------------------------------------------------------------------ the host */

static void called(struct host *h)
{
	check(h->calls++ < CALLS_MAX, "a step does not end");
}

static enum emu_result host_translate(void *ctx, uint64_t linear, unsigned kind,
				      struct emu_place *place)
{
	struct host *h = ctx;
	unsigned page = linear / PAGE % PAGES, what = h->pages[page];
	unsigned shift = h->emu.cr4 & CR4_LA57 ? 7 : 16;
	bool write = kind & EMU_WRITE;

	called(h);
	check(kind == EMU_READ || kind == EMU_WRITE, "an access of no kind");
	check(emu_mode(&h->emu) == INSN_64
		  ? (uint64_t)((int64_t)(linear << shift) >> shift) == linear
		  : linear <= UINT32_MAX,
	      "an address that is not one");
	if (what == PAGE_FAULTS || (what == PAGE_FAULTS_WRITTEN && write)) {
		h->refused++;
		return EMU_FAULT;
	}
	if (what == PAGE_DEVICE || (what == PAGE_READ_ONLY && write)) {
		h->device_found[page] = true;
		h->device_written[page] |= write;
		*place = (struct emu_place){DEVICE + page * PAGE + linear % PAGE, NULL};
		return EMU_DONE;
	}
	if (what >= FRAMES)
		what = 0;
	h->frame_written[what] |= write;
	*place = (struct emu_place){what * PAGE + linear % PAGE, h->frames[what] + linear % PAGE};
	return EMU_DONE;
}

static unsigned device_page(const struct host *h, uint64_t gpa, unsigned size)
{
	uint64_t page = (gpa - DEVICE) / PAGE;

	check(size == 1 || size == 2 || size == 4 || size == 8, "a device access of an odd size");
	check(gpa % size == 0, "a device access that is not aligned");
	check(page < PAGES && h->device_found[page], "a device access that nobody translated");
	return (unsigned)page;
}

static uint64_t host_device_read(void *ctx, uint64_t gpa, unsigned size)
{
	struct host *h = ctx;

	called(h);
	device_page(h, gpa, size);
	h->answers = h->answers * 1664525 + 1013904223;
	return h->answers * 0x100000001ull;
}

static void host_device_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
	struct host *h = ctx;

	(void)value;
	called(h);
	check(h->device_written[device_page(h, gpa, size)], "a device written unasked");
	h->stores++;
}

static void host_written(void *ctx, uint64_t gpa, size_t size)
{
	struct host *h = ctx;
	uint64_t frame = gpa / PAGE, at = gpa % PAGE;

	called(h);
	check(frame < FRAMES && h->frame_written[frame], "memory written unasked");
	check(size && size <= PAGE - at, "a store of no size, or beyond its page");
	memcpy(h->mirror[frame] + at, h->frames[frame] + at, size);
	h->stores++;
}

static void host_raise(void *ctx, unsigned vector, int64_t error)
{
	struct host *h = ctx;

	called(h);
	check(vector < 32 && vector != 14 && error < 0x10000, "an exception that is none");
	h->raised++;
}

static void host_xmm_read(void *ctx, unsigned reg, void *value)
{
	struct host *h = ctx;

	called(h);
	check(reg < EMU_MM + 8, "an SSE register that is none");
	memcpy(value, h->state.xmm[reg], 16);
}

static void host_xmm_write(void *ctx, unsigned reg, const void *value)
{
	struct host *h = ctx;

	called(h);
	check(reg < EMU_MM + 8, "an SSE register that is none");
	memcpy(h->state.xmm[reg], value, 16);
	h->xmm_stores++;
}

static uint32_t host_port_read(void *ctx, uint16_t port, unsigned size)
{
	struct host *h = ctx;

	called(h);
	check(size == 1 || size == 2 || size == 4, "a port access of an odd size");
	h->ports++;
	h->answers = h->answers * 1664525 + port;
	return h->answers;
}

static void host_port_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	struct host *h = ctx;

	(void)port;
	(void)value;
	called(h);
	check(size == 1 || size == 2 || size == 4, "a port access of an odd size");
	h->ports++;
	h->stores++;
}

static const struct emu_host host = {
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

/* ------------------------------------------------------------------ the processor */

enum mode {
	LONG_64,
	LONG_32,
	LONG_16,
	PROTECTED_32,
	PROTECTED_16,
	REAL,
	VIRTUAL_86,
	LONG_64_5_LEVELS
};

static void mode_set(struct host *h, uint8_t config)
{
	enum mode mode = config & 7;
	struct emu *emu = &h->emu;
	bool is_long = mode <= LONG_16 || mode == LONG_64_5_LEVELS;

	emu->cr0 = mode == REAL ? 0 : CR0_PE;
	if (is_long)
		emu->cr0 |= CR0_PG, emu->efer = EFER_LMA;
	if (mode == LONG_64_5_LEVELS)
		emu->cr4 = CR4_LA57;
	if (mode == VIRTUAL_86)
		h->state.rflags |= FLAG_VM;
	if (mode != REAL && (config & 8 || mode == VIRTUAL_86))
		emu->cpl = 3;
	if (config & 16)
		emu->cr0 |= CR0_AM;
	if (config & 32)
		h->state.rflags |= FLAG_AC;
	h->segments[SEGMENT_CS].attributes &= (uint16_t) ~(EMU_SEGMENT_L | EMU_SEGMENT_D);
	if (mode == LONG_64 || mode == LONG_64_5_LEVELS)
		h->segments[SEGMENT_CS].attributes |= EMU_SEGMENT_L;
	else if (mode == LONG_32 || mode == PROTECTED_32)
		h->segments[SEGMENT_CS].attributes |= EMU_SEGMENT_D;
}

/* Type by the low bits, limit and base by the others. */
static struct emu_segment segment(uint8_t what, unsigned number)
{
	static const uint16_t attributes[] = {0xc93, 0x093, 0xc97, 0x097, 0xc9b, 0x099, 0xc91, 0};
	static const uint32_t limits[] = {0xffffffff, 0xffff, 0x1fff, 0x7};
	static const uint64_t bases[] = {
	    0, 0x10ff0,   0xfffffffe, 0xffff8000000ffffb, 0x7fff00000000, 0xffffffffffffffff,
	    1, 0xffff0000};

	return (struct emu_segment){(uint16_t)(number * 8 + 3), attributes[what & 7],
				    limits[what >> 3 & 3], bases[what >> 5]};
}

/* Small numbers, places around a page's border, or any. */
static uint64_t value(struct input *input)
{
	uint8_t how = input_u8(input);

	switch (how >> 6) {
	case 0:
		return how;
	case 1:
		return (uint64_t)(how >> 3 & 7) * PAGE - 4 + (how & 7) * 2;
	case 2:
		return ((uint64_t)input_u16(input) << (how & 63)) - (how & 1);
	default:
		return how & 1 ? input_u64(input) : 0ull - input_u8(input);
	}
}

/* ------------------------------------------------------------------ one step */

static bool is_string(const struct insn *insn)
{
	return insn->map == 0 && ((insn->opcode & 0xfc) == 0x6c || (insn->opcode & 0xfc) == 0xa4 ||
				  (insn->opcode >= 0xaa && insn->opcode <= 0xaf));
}

static uint64_t mask_of(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << 8 * size) - 1;
}

/* Whole elements: as far as the count went down, so far went the indices that the opcode has. */
static void check_repetition(const struct host *h, const struct insn *insn,
			     const struct state *before)
{
	const uint64_t *then = before->gpr, *now = h->state.gpr;
	uint64_t mask = mask_of(insn->address_size), count = (then[1] - now[1]) & mask;
	uint64_t size = insn->opcode & 1 ? insn->size : 1, moved;
	unsigned op = insn->opcode & 0xfe;

	if (insn->opcode < 0x70 && size == 8)
		size = 4;
	moved = before->rflags & FLAG_DF ? 0 - count * size : count * size;
	check((then[1] & mask) >= count && count <= 2 * PAGE, "a repetition ran too far");
	if (op == 0x6e || op == 0xa4 || op == 0xa6 || op == 0xac)
		check((now[6] & mask) == ((then[6] + moved) & mask), "RSI is off");
	else
		check(now[6] == then[6], "RSI changed");
	if (op != 0x6e && op != 0xac)
		check((now[7] & mask) == ((then[7] + moved) & mask), "RDI is off");
	else
		check(now[7] == then[7], "RDI changed");
}

static void check_memory(const struct host *h)
{
	for (unsigned i = 0; i < FRAMES; i++)
		check(!memcmp(h->mirror[i], h->frames[i], PAGE), "a store that nobody heard of");
}

static void check_after(const struct host *h, const struct insn *insn, const struct state *before,
			enum emu_result result)
{
	bool repeats = is_string(insn) && (insn->rep || insn->repne);
	bool enters = insn->map == 0 && insn->opcode == 0xc8; /* pushes as it goes, below RSP */

	check_memory(h);
	check(!((h->state.rflags ^ before->rflags) & ~ARITHMETIC), "a flag that is not arithmetic");
	check(!h->ports || (is_string(insn) && insn->opcode < 0x70), "a port access");
	switch (result) {
	case EMU_DONE:
		check(!h->raised && !h->refused, "done, after a fault");
		check(insn->mode == INSN_64 || h->state.rip <= UINT32_MAX, "RIP is too wide");
		break;
	case EMU_FAULT:
		check(h->raised + h->refused == 1, "a fault that is none, or more than one");
		check(h->state.rip == before->rip, "a fault moved RIP");
		check(repeats || enters || (!h->stores && !h->xmm_stores),
		      "a fault with something done");
		check(repeats || !memcmp(&h->state, before, sizeof(*before)),
		      "a fault changed registers");
		break;
	case EMU_UNKNOWN:
		check(!h->calls, "not known, but begun");
		check(!memcmp(&h->state, before, sizeof(*before)), "not known, but changed");
		break;
	default:
		check(false, "a result that is none");
	}
	if (!repeats || result == EMU_UNKNOWN)
		return;
	check_repetition(h, insn, before);
	for (unsigned i = 0; i < 16; i++)
		check(REP_GPRS >> i & 1 || h->state.gpr[i] == before->gpr[i],
		      "a repetition changed a register that it does not have");
}

static void step_begin(struct host *h)
{
	h->calls = h->raised = h->refused = h->stores = h->xmm_stores = h->ports = 0;
	memset(h->frame_written, 0, sizeof(h->frame_written));
	memset(h->device_found, 0, sizeof(h->device_found));
	memset(h->device_written, 0, sizeof(h->device_written));
}

static enum emu_result step(struct host *h, const struct insn *insn)
{
	struct state before = h->state;
	enum emu_result result;

	step_begin(h);
	result = emu_execute(&h->emu, insn);
	check_after(h, insn, &before, result);
	return result;
}

/* The operand alone, read or written for an instruction that the caller carries out. */
static void touch(struct host *h, const struct insn *insn, bool write)
{
	struct state before = h->state;
	unsigned size = 1 + h->emu.cpl + (unsigned)(h->state.gpr[0] & 3) * 4;
	uint8_t *operand = calloc(1, size);
	enum emu_result result;

	if (!operand)
		abort();
	step_begin(h);
	result = write ? emu_write(&h->emu, insn, operand, size)
		       : emu_read(&h->emu, insn, operand, size);
	check_memory(h);
	check(result == EMU_DONE ? !h->raised && !h->refused
				 : result == EMU_FAULT && h->raised + h->refused == 1,
	      "an operand that is neither there nor faults");
	check((write && result == EMU_DONE) || !h->stores, "a store too many");
	check(!memcmp(&h->state, &before, sizeof(before)), "an operand changed registers");
	free(operand);
}

/* The same instruction, cut off behind its end, and before. @bytes is of @count exactly. */
static bool decode(const uint8_t *bytes, size_t count, enum insn_mode mode, struct insn *insn)
{
	struct insn again;
	uint8_t *cut;

	memset(insn, 0, sizeof(*insn));
	if (!insn_decode(bytes, count, mode, insn))
		return false;
	check(insn->length >= 1 && insn->length <= INSN_MAX && insn->length <= count,
	      "an instruction of an impossible length");
	cut = malloc(insn->length);
	if (!cut)
		abort();
	memcpy(cut, bytes, insn->length);
	check(insn_decode(cut, insn->length, mode, &again) && again.length == insn->length &&
		  again.opcode == insn->opcode && again.displacement == insn->displacement &&
		  again.immediate == insn->immediate && again.immediate2 == insn->immediate2,
	      "what lies behind an instruction matters");
	check(!insn_decode(cut, insn->length - 1u, mode, &again), "half an instruction is one");
	free(cut);
	return true;
}

static void run(struct host *h, uint8_t how, const uint8_t *bytes, size_t count)
{
	uint64_t begin = h->state.rip;
	struct insn insn;

	if (!decode(bytes, count, emu_mode(&h->emu), &insn))
		return;
	if (insn.memory)
		emu_address(&h->emu, &insn);
	emu_linear_rip(&h->emu);
	if (how >= 0xc0) {
		touch(h, &insn, how & 0x20);
		return;
	}
	for (unsigned i = 0; i < STEPS; i++)
		if (step(h, &insn) != EMU_DONE || h->state.rip != begin)
			break;
}

/* ------------------------------------------------------------------ the input */

static void change(struct host *h, struct input *input)
{
	uint8_t what = input_u8(input);
	uint64_t keep = FLAG_VM | FLAG_AC, word;
	uint16_t at, attributes;

	switch (what & 31) {
	case 16:
	case 17:
		h->state.rflags = (h->state.rflags & keep) | 2 | (input_u16(input) & 0x7fd5);
		break;
	case 18:
	case 19:
	case 20:
		at = input_u16(input);
		word = input_u64(input);
		at = (uint16_t)(at % (FRAMES * PAGE) / PAGE * PAGE + at % (PAGE - 7));
		memcpy(h->frames[at / PAGE] + at % PAGE, &word, sizeof(word));
		memcpy(h->mirror[at / PAGE] + at % PAGE, &word, sizeof(word));
		break;
	case 21:
	case 22:
		h->pages[what >> 5] = input_u8(input) % PAGE_KINDS;
		break;
	case 23:
	case 24: /* CS goes on as code of its mode */
		what = what >> 5 & 7;
		if (what > SEGMENT_GS)
			what = SEGMENT_DS;
		attributes = h->segments[what].attributes & (EMU_SEGMENT_L | EMU_SEGMENT_D);
		h->segments[what] = segment(input_u8(input), what);
		if (what == SEGMENT_CS) {
			h->segments[what].attributes &= (uint16_t) ~(EMU_SEGMENT_L | EMU_SEGMENT_D);
			h->segments[what].attributes |= attributes;
		}
		break;
	case 25:
	case 26:
		h->state.rip = value(input);
		if (emu_mode(&h->emu) != INSN_64)
			h->state.rip = (uint32_t)h->state.rip;
		break;
	case 27: /* a count, and the string's ends */
		h->state.gpr[1] = input_u8(input);
		h->state.gpr[6] = value(input);
		h->state.gpr[7] = value(input);
		break;
	default:
		h->state.gpr[what & 15] = value(input);
		break;
	}
}

static void instruction(struct host *h, struct input *input)
{
	uint8_t what = input_u8(input), how;
	uint8_t *bytes;
	size_t count;

	for (unsigned i = 0; i < (what & 3u); i++)
		change(h, input);
	how = input_u8(input);
	count = how % (INSN_MAX + 6u);
	bytes = calloc(1, count + !count);
	if (!bytes)
		abort();
	for (size_t i = 0; i < count; i++)
		bytes[i] = input_u8(input);
	if (how >= 192 && count >= 4) /* the map that few come upon */
		memcpy(bytes + (how & 1), "\x0f\x38", 2);
	run(h, what, bytes, count);
	free(bytes);
}

static void host_make(struct host *h, struct input *input, uint8_t config)
{
	memset(h, 0, sizeof(*h));
	h->state.rflags = 2;
	for (unsigned i = 0; i < PAGES; i += 2) {
		uint8_t two = input_u8(input);

		h->pages[i] = (two & 15) % PAGE_KINDS;
		h->pages[i + 1] = (two >> 4) % PAGE_KINDS;
	}
	for (unsigned i = 0; i < FRAMES; i++) {
		h->frames[i] = calloc(1, PAGE);
		if (!h->frames[i])
			abort();
	}
	for (unsigned i = 0; i < 6; i++)
		h->segments[i] = segment(0, i);
	mode_set(h, config);
	h->emu.host = &host;
	h->emu.ctx = h;
	h->emu.gpr = h->state.gpr;
	h->emu.rip = &h->state.rip;
	h->emu.rflags = &h->state.rflags;
	h->emu.segment = h->segments;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct host h;
	struct input input = {bytes, bytes + size};
	uint8_t config = input_u8(&input);

	host_make(&h, &input, config);
	for (unsigned i = 0; i < INSTRUCTIONS && !input_is_empty(&input); i++)
		instruction(&h, &input);
	for (unsigned i = 0; i < FRAMES; i++)
		free(h.frames[i]);
	return 0;
}
