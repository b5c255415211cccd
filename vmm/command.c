/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the `umbra` command asks of a running machine through the machine page: a function for each
 * of enum umbra_command, called between two guest entries.
 */
#include "command.h"
#include "control.h"
#include "cpu.h"
#include "host.h"
#include "machine.h"
#include "memory.h"
#include "renew.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

static void command_stats(struct vm *vm)
{
	machine_stats(vm);
}

static void command_stop(struct vm *vm)
{
	machine_end(vm, UMBRA_END_COMMAND, "stopped by command");
}

#define MAPPINGS (UMBRA_ANSWER_BYTES / sizeof(struct umbra_mapping))

static bool answer_mapping(void *ctx, const struct umbra_mapping *mapping)
{
	struct vm *vm = ctx;
	struct umbra_machine *page = vm->machine;
	struct umbra_mapping *to = vm->control.answer;

	if (vm->control.skip) {
		vm->control.skip--;
		return true;
	}
	to[page->answers++] = *mapping;
	return page->answers < MAPPINGS;
}

static void command_rmap(struct vm *vm)
{
	vm->control.skip = vm->machine->argument[1];
	vm->machine->result =
	    umbra_rmap_visit(vm->mmu, (umbra_gfn){vm->machine->argument[0]}, answer_mapping, vm);
}

static void command_view(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;

	page->result = umbra_view(vm->vcpu->umbra, page->argument[0], vm->control.answer);
	page->answers = page->result == 0;
}

static void command_record(struct vm *vm)
{
	vm->machine->result = vm->recording.on ? UMBRA_EEXIST : mmu_renew(vm);
	if (vm->machine->result == UMBRA_EAGAIN)
		memory_settle(vm); /* so that it may be had the next time */
}

static void command_record_end(struct vm *vm)
{
	machine_stats(vm);
	vm->machine->result = vm->recording.on ? 0 : UMBRA_ENOENT;
	record_end(vm, UMBRA_END_NONE);
}

/* ------------------------------------------------------------------ what a host does to memory */

static void say(struct vm *vm, uint64_t number)
{
	uint64_t *to = vm->control.answer;

	to[vm->machine->answers++] = number;
}

/* Is the range that the arguments name one, and is some of it memory? 0 or UMBRA_E*. */
static int range_check(const struct vm *vm)
{
	uint64_t first = vm->machine->argument[0], pages = vm->machine->argument[1];

	if (!pages || first >= UMBRA_GFN_END || pages > UMBRA_GFN_END - first)
		return UMBRA_EINVAL;
	for (unsigned i = 0; i < vm->slot_count; i++) {
		const struct vm_slot *s = &vm->slots[i];

		if (!s->absent && first < s->first + s->pages && s->first < first + pages)
			return 0;
	}
	return UMBRA_ENOENT;
}

static void command_drop(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;
	struct umbra_dropped dropped = {0};

	page->result = range_check(vm);
	if (page->result)
		return;
	page->result = mmu_drop(vm, (umbra_gfn){page->argument[0]}, page->argument[1], &dropped);
	say(vm, dropped.sptes);
	say(vm, dropped.accessed);
	say(vm, dropped.dirty);
}

static void command_protect(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;
	uint64_t sptes = 0;

	page->result = range_check(vm);
	if (page->result)
		return;
	page->result =
	    mmu_write_protect(vm, (umbra_gfn){page->argument[0]}, page->argument[1], &sptes);
	say(vm, sptes);
}

static void command_split(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;
	uint64_t sptes = 0;

	page->result = range_check(vm);
	if (page->result)
		return;
	page->result = mmu_split(vm, (umbra_gfn){page->argument[0]}, page->argument[1], &sptes);
	say(vm, sptes);
}

static void command_migrate(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;
	uint64_t gfn, sptes, ticks, moved = 0, all = 0;

	for (uint64_t i = 0; i < page->argument[0] && !page->result; i++) {
		if (!memory_random(vm, &gfn))
			continue;
		page->result = memory_migrate(vm, gfn, &sptes, &ticks);
		moved += !page->result;
		all += page->result ? 0 : sptes;
		if (page->result == UMBRA_ENOENT) /* of a slot that is away */
			page->result = 0;
	}
	page->migrations += moved;
	vm->vcpu->stuck = 0;
	say(vm, moved);
	say(vm, all);
}

static void command_storm(struct vm *vm)
{
	control_storm(vm, vm->machine->argument[0]);
}

static void command_merge(struct vm *vm)
{
	vm->machine->result = merge_set(vm->host, vm->machine->argument[0], rdtsc());
	say(vm, vm->frames->sharers - vm->frames->shared);
	say(vm, vm->frames->shared);
	say(vm, vm->frames->sharers);
}

static void command_compact(struct vm *vm)
{
	vm->machine->result = compact_set(vm->host, vm->machine->argument[0], rdtsc());
	say(vm, vm->host->guest[0]->machine->blocks_built);
	say(vm, vm->machine->compacted);
	say(vm, vm->machine->collapsed);
	say(vm, vm->machine->collapses_broken);
}

static void command_zap(struct vm *vm)
{
	mmu_zap_all(vm);
	vm->machine->zaps++;
}

static void command_quota(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;

	page->result = page->argument[0] > vm->options.quota ? UMBRA_EINVAL
							     : control_quota(vm, page->argument[0]);
}

static void command_audit(struct vm *vm)
{
	say(vm, control_audit(vm));
}

#define PIECE 512u /* pages that are asked about at once */

static unsigned count_bits(const uint64_t *words, unsigned count)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < count; i++)
		for (uint64_t left = words[i]; left; left &= left - 1)
			bits++;
	return bits;
}

/* @ask about all pages of the guest, a piece at a time; the sum of bits that it sets. */
static uint64_t survey(struct vm *vm,
		       int (*ask)(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *bits))
{
	uint64_t bits[PIECE / 64], sum = 0;

	for (unsigned i = 0; i < vm->slot_count; i++) {
		const struct vm_slot *s = &vm->slots[i];

		for (uint64_t at = 0; at < s->pages && !s->absent && !vm->machine->result;
		     at += PIECE) {
			uint64_t pages = s->pages - at < PIECE ? s->pages - at : PIECE;

			vm->machine->result = ask(vm, (umbra_gfn){s->first + at}, pages, bits);
			sum +=
			    vm->machine->result ? 0 : count_bits(bits, (unsigned)(pages + 63) / 64);
		}
	}
	return sum;
}

static int ask_age(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *bits)
{
	return mmu_age(vm, first, pages, 0, bits);
}

static void command_age(struct vm *vm)
{
	uint64_t resident = 0;

	say(vm, survey(vm, ask_age));
	for (uint64_t i = 0; i < vm->pages; i++)
		resident += memory_has_frame(vm->entries[i]);
	say(vm, resident);
	say(vm, vm->pages);
}

/* Slots that are there are logged: all, or some that were added meanwhile are not. */
static bool is_logged(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->slot_count; i++)
		if (!vm->slots[i].absent && !(vm->recording.logs >> i & 1))
			return false;
	return vm->control.logs;
}

static void command_log_stop(struct vm *vm)
{
	vm->machine->result = vm->control.logs ? 0 : UMBRA_ENOENT;
	for (unsigned i = 0; i < vm->slot_count; i++)
		if (!vm->slots[i].absent)
			mmu_log_stop(vm, i);
	vm->control.logs = false;
}

static void command_log_start(struct vm *vm)
{
	uint64_t flags = vm->machine->argument[0];
	int error = vm->control.logs ? UMBRA_EEXIST : flags > UINT32_MAX ? UMBRA_EINVAL : 0;

	for (unsigned i = 0; i < vm->slot_count && !error; i++)
		if (!vm->slots[i].absent)
			error = mmu_log_start(vm, i, (unsigned)flags);
	if (!error)
		vm->control.logs = true;
	else if (!vm->control.logs)
		command_log_stop(vm);
	vm->machine->result = error;
}

/* A log ends with its slot: then this one cannot tell all any more. */
static void command_log_collect(struct vm *vm)
{
	vm->machine->result = is_logged(vm) ? 0 : vm->control.logs ? UMBRA_EAGAIN : UMBRA_ENOENT;
	say(vm, vm->machine->result ? 0 : survey(vm, mmu_log_collect));
}

/* ------------------------------------------------------------------ slots */

static void command_slots(struct vm *vm)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		say(vm, i);
		say(vm, vm->slots[i].first);
		say(vm, vm->slots[i].pages);
		say(vm, vm->slots[i].read_only);
		say(vm, !vm->slots[i].absent);
	}
}

static void command_slot_delete(struct vm *vm)
{
	vm->machine->result = memory_slot_delete(vm, vm->machine->argument[0]);
}

static void command_slot_add(struct vm *vm)
{
	vm->machine->result = memory_slot_add(vm, vm->machine->argument[0]);
}

static void command_slot_renew(struct vm *vm)
{
	command_slot_delete(vm);
	if (!vm->machine->result)
		command_slot_add(vm);
}

static void command_slot_flags(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;

	page->result = page->argument[1] > UINT32_MAX
			   ? UMBRA_EINVAL
			   : memory_slot_flags(vm, page->argument[0], (uint32_t)page->argument[1]);
}

/* ------------------------------------------------------------------ watches */

static void command_watch(struct vm *vm)
{
	vm->machine->result = watch_set(vm, vm->machine->argument[0], vm->machine->argument[1]);
}

static void command_watch_clear(struct vm *vm)
{
	watch_clear(vm);
}

static void command_watches(struct vm *vm)
{
	for (unsigned i = 0; i < vm->watching.count; i++) {
		const struct watch *watch = &vm->watching.watch[i];

		say(vm, watch->gfn);
		say(vm, watch->kinds);
		for (unsigned kind = 0; kind < KINDS; kind++)
			say(vm, watch->touches[kind]);
	}
}

static void command_touches(struct vm *vm)
{
	const struct watching *w = &vm->watching;

	for (uint64_t i = w->touches > TOUCHES ? w->touches - TOUCHES : 0; i < w->touches; i++) {
		const struct touch *touch = &w->touch[i % TOUCHES];

		say(vm, muldiv(touch->tsc - vm->machine->tsc_start, 1000000, vm->cpu->tsc_hz));
		say(vm, touch->gfn);
		say(vm, touch->kind);
		say(vm, touch->rip);
		say(vm, touch->gva);
	}
}

/* ------------------------------------------------------------------ swapping */

static void command_swap(struct vm *vm)
{
	const struct umbra_swap *figures = &vm->host->guest[0]->machine->swap;

	const uint64_t *number = (const uint64_t *)figures;
	uint64_t faults = figures->faults ? figures->faults : 1;

	swap_figures(vm->host);
	for (; number < &figures->out_tsc; number++)
		say(vm, *number);
	for (; number < (const uint64_t *)(figures + 1); number++)
		say(vm, muldiv(*number, 1000000, vm->cpu->tsc_hz));
	say(vm, muldiv(figures->faults_tsc / faults, 1000000, vm->cpu->tsc_hz));
}

static void command_reclaim(struct vm *vm)
{
	struct umbra_swap *figures = &vm->host->guest[0]->machine->swap;
	uint64_t zeros = figures->zeros;

	if (!vm->host->swap.on)
		vm->machine->result = UMBRA_ENOENT;
	say(vm, swap_reclaim(vm->host, vm->machine->argument[0]));
	say(vm, figures->zeros - zeros);
	say(vm, vm->frames->count);
}

static void (*const commands[UMBRA_COMMANDS])(struct vm *vm) = {
    [UMBRA_COMMAND_STATS] = command_stats,
    [UMBRA_COMMAND_STOP] = command_stop,
    [UMBRA_COMMAND_RMAP] = command_rmap,
    [UMBRA_COMMAND_VIEW] = command_view,
    [UMBRA_COMMAND_RECORD] = command_record,
    [UMBRA_COMMAND_RECORD_END] = command_record_end,
    [UMBRA_COMMAND_DROP] = command_drop,
    [UMBRA_COMMAND_PROTECT] = command_protect,
    [UMBRA_COMMAND_SPLIT] = command_split,
    [UMBRA_COMMAND_MIGRATE] = command_migrate,
    [UMBRA_COMMAND_STORM] = command_storm,
    [UMBRA_COMMAND_MERGE] = command_merge,
    [UMBRA_COMMAND_COMPACT] = command_compact,
    [UMBRA_COMMAND_ZAP] = command_zap,
    [UMBRA_COMMAND_QUOTA] = command_quota,
    [UMBRA_COMMAND_AUDIT] = command_audit,
    [UMBRA_COMMAND_AGE] = command_age,
    [UMBRA_COMMAND_LOG_START] = command_log_start,
    [UMBRA_COMMAND_LOG_COLLECT] = command_log_collect,
    [UMBRA_COMMAND_LOG_STOP] = command_log_stop,
    [UMBRA_COMMAND_SLOTS] = command_slots,
    [UMBRA_COMMAND_SLOT_DELETE] = command_slot_delete,
    [UMBRA_COMMAND_SLOT_ADD] = command_slot_add,
    [UMBRA_COMMAND_SLOT_RENEW] = command_slot_renew,
    [UMBRA_COMMAND_SLOT_FLAGS] = command_slot_flags,
    [UMBRA_COMMAND_WATCH] = command_watch,
    [UMBRA_COMMAND_WATCH_CLEAR] = command_watch_clear,
    [UMBRA_COMMAND_WATCHES] = command_watches,
    [UMBRA_COMMAND_TOUCHES] = command_touches,
    [UMBRA_COMMAND_SWAP] = command_swap,
    [UMBRA_COMMAND_RECLAIM] = command_reclaim,
};

void command_obey(struct vm *vm, uint32_t command)
{
	struct umbra_machine *page = vm->machine;

	page->result = UMBRA_EINVAL;
	page->answers = 0;
	if (command < UMBRA_COMMANDS && commands[command] &&
	    page->argument[0] <= umbra_command_most(command)) {
		page->result = 0;
		commands[command](vm);
	}
	/* Another one may have come on top of it: that stays. */
	__atomic_compare_exchange_n(&page->command, &command, UMBRA_COMMAND_NONE, false,
				    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
