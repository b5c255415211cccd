/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Recording. Nothing is lost: a full ring waits for its reader. What a replayer knows already
 * (words of tables that have not changed, frames that are as they were told last) is left out; the
 * cache of words may forget, which costs a record, not the truth.
 *
 * One processor runs the hypervisor, so that a call's inputs are those since the event before.
 */
#include "cpu.h"
#include "frames.h"
#include "machine.h"
#include "record.h"
#include "string.h"
#include "vm.h"
#include "x86.h"

#define RING_RECORDS (1u << 17) /* 4 MiB */
#define KNOWN_WORDS  (1u << 15)

/* 8 bytes of a guest's table. */
struct known_word {
	uint64_t at; /* gpa, | 1 if the lower 4 bytes are known, | 2 the upper ones; 0: none */
	uint64_t value;
};

static bool is_set_up(struct vm *vm)
{
	struct recording *r = &vm->recording;

	if (!r->ring)
		r->ring = pool_alloc(vm->frames, RING_RECORDS * sizeof(*r->ring));
	if (!r->words)
		r->words = pool_alloc(vm->frames, KNOWN_WORDS * sizeof(*r->words));
	if (!r->told)
		r->told = pool_alloc(vm->frames, vm->pages * sizeof(*r->told));
	return r->ring && r->words && r->told;
}

int record_begin(struct vm *vm)
{
	struct recording *r = &vm->recording;
	struct umbra_ring *ring = &vm->machine->ring;

	if (!is_set_up(vm))
		return UMBRA_ENOMEM;
	memset(r->words, 0, KNOWN_WORDS * sizeof(*r->words));
	memset(r->told, 0, vm->pages * sizeof(*r->told));
	r->begun = rdtsc();
	r->since_root = true;
	r->on = true;
	ring->capacity = RING_RECORDS;
	__atomic_store_n(&ring->address, (uintptr_t)r->ring, __ATOMIC_RELEASE);
	return 0;
}

void record_give_up(struct vm *vm)
{
	vm->recording.on = false;
}

static void put(struct vm *vm, struct umbra_record record)
{
	struct umbra_ring *ring = &vm->machine->ring;
	uint64_t written = ring->written;

	while (written - __atomic_load_n(&ring->read, __ATOMIC_ACQUIRE) == RING_RECORDS)
		__builtin_ia32_pause();
	vm->recording.ring[written % RING_RECORDS] = record;
	__atomic_store_n(&ring->written, written + 1, __ATOMIC_RELEASE);
}

void record_event(struct vm *vm, enum umbra_trace_kind kind, uint64_t a, uint64_t b, uint64_t c)
{
	struct recording *r = &vm->recording;
	uint64_t time = muldiv(rdtsc() - r->begun, 1000000, vm->cpu->tsc_hz);

	r->since_root = kind != UMBRA_TRACE_ROOT;
	put(vm, (struct umbra_record){
		    .kind = (uint8_t)kind, .time = (uint32_t)time, .a = a, .b = b, .c = c});
}

/* ------------------------------------------------------------------ inputs */

/* All of a frame, in a word that is not 0: its number has 28 bits. */
static uint32_t packed(const struct umbra_frame *frame)
{
	return (uint32_t)frame->pfn.n << 4 | frame->level << 2 | frame->writable << 1 | 1;
}

/* A replayer knows @frame from now on; of a large one all pages. */
static void note_told(struct vm *vm, uint64_t index, umbra_gfn gfn, const struct umbra_frame *frame)
{
	const uint64_t pages = frame->level == 2 ? FRAMES_BLOCK : 1, at = gfn.n % pages;
	struct umbra_frame page = *frame;

	for (uint64_t i = 0; i < pages; i++) {
		page.pfn.n = frame->pfn.n - at + i;
		vm->recording.told[index - at + i] = packed(&page);
	}
}

/*
 * A page that has gone is told once: from then on a replayer knows that there is none. Any other
 * trouble is told each time, and changes nothing of what it knows.
 */
void record_frame(struct vm *vm, uint64_t index, umbra_gfn gfn, enum umbra_want want, int error,
		  const struct umbra_frame *frame)
{
	struct recording *r = &vm->recording;
	struct umbra_record record = {.kind = UMBRA_TRACE_FRAME, .a = gfn.n, .c = want};

	if (!r->on || r->quiet)
		return;
	if (error == UMBRA_ENOENT && want == UMBRA_WANT_PEEK) {
		if (index >= vm->pages || !r->told[index])
			return;
		r->told[index] = 0;
	}
	if (error) {
		record.c |= (uint64_t)(uint32_t)error << 32;
	} else {
		if (r->told[index] == packed(frame))
			return;
		note_told(vm, index, gfn, frame);
		record.b = frame->pfn.n;
		record.c |= (uint64_t)frame->writable << 8 | (uint64_t)frame->level << 16;
	}
	put(vm, record);
}

void record_frame_moved(struct vm *vm, uint64_t index, const struct umbra_frame *to)
{
	if (vm->recording.on)
		vm->recording.told[index] = packed(to);
}

void record_frames_forget(struct vm *vm, uint64_t index, uint64_t pages)
{
	if (vm->recording.on)
		memset(vm->recording.told + index, 0, pages * sizeof(*vm->recording.told));
}

bool record_is_amid(const struct vm *vm)
{
	return vm->recording.open || vm->recording.logs;
}

/* Does a replayer's guest memory hold @value there? From now on it does. */
static bool is_known(struct recording *r, uint64_t gpa, bool wide, uint64_t value)
{
	uint64_t at = gpa & ~7ull, shift = gpa & 4 ? 32 : 0;
	struct known_word *word = &r->words[(gpa >> 3 ^ gpa >> 18) % KNOWN_WORDS];
	uint64_t part = wide ? 3 : gpa & 4 ? 2 : 1, mask = wide ? ~0ull : 0xffffffffull << shift;

	if ((word->at & ~7ull) != at || !(word->at & 3))
		*word = (struct known_word){.at = at};
	if (!wide)
		value <<= shift;
	if ((word->at & part) == part && (word->value & mask) == value)
		return true;
	word->value = (word->value & ~mask) | value;
	word->at |= part;
	return false;
}

static bool is_wide(enum umbra_input kind)
{
	return kind == UMBRA_INPUT_WORD8 || kind == UMBRA_INPUT_SET8;
}

/* What hardware did, or (0) did not, which a replayer takes for granted. */
static bool is_hardwares(enum umbra_input kind)
{
	return kind == UMBRA_INPUT_AGE || kind == UMBRA_INPUT_DIRTY;
}

uint64_t record_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	static const uint8_t kinds[] = {[UMBRA_INPUT_WORD4] = UMBRA_TRACE_WORD4,
					[UMBRA_INPUT_WORD8] = UMBRA_TRACE_WORD8,
					[UMBRA_INPUT_AGE] = UMBRA_TRACE_AGE,
					[UMBRA_INPUT_DIRTY] = UMBRA_TRACE_DIRTY};
	struct vm *vm = ctx;
	struct recording *r = &vm->recording;

	if (r->quiet || !r->on)
		return value;
	if (is_hardwares(kind) ? value == 0 : is_known(r, key, is_wide(kind), value))
		return value;
	if (kind == UMBRA_INPUT_SET4 || kind == UMBRA_INPUT_SET8) /* a replayer does the same */
		return value;
	put(vm, (struct umbra_record){.kind = kinds[kind], .a = key, .b = value});
	return value;
}

void record_mark(struct vm *vm, uint32_t operation, uint32_t argument)
{
	if (vm->recording.on)
		record_event(vm, UMBRA_TRACE_MARK, operation, argument, 0);
}

void record_end(struct vm *vm, uint32_t end)
{
	if (vm->recording.on)
		record_event(vm, UMBRA_TRACE_END, end, vm->machine->mmu.sptes,
			     vm->machine->mmu.shadow_pages);
	vm->recording.on = false;
}
