/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the `umbra` command asks of a running machine through the machine page: a function for each
 * of enum umbra_command, called between two guest entries.
 */
#include "command.h"
#include "control.h"
#include "machine.h"
#include "memory.h"
#include "renew.h"
#include "vcpu.h"
#include "vm.h"

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
}

static void command_record_end(struct vm *vm)
{
	machine_stats(vm);
	vm->machine->result = vm->recording.on ? 0 : UMBRA_ENOENT;
	record_end(vm, UMBRA_END_NONE);
}

static void (*const commands[UMBRA_COMMANDS])(struct vm *vm) = {
    [UMBRA_COMMAND_STATS] = command_stats,   [UMBRA_COMMAND_STOP] = command_stop,
    [UMBRA_COMMAND_RMAP] = command_rmap,     [UMBRA_COMMAND_VIEW] = command_view,
    [UMBRA_COMMAND_RECORD] = command_record, [UMBRA_COMMAND_RECORD_END] = command_record_end,
};

void command_obey(struct vm *vm, uint32_t command)
{
	struct umbra_machine *page = vm->machine;

	page->result = UMBRA_EINVAL;
	page->answers = 0;
	if (command < UMBRA_COMMANDS && commands[command]) {
		page->result = 0;
		commands[command](vm);
	}
	/* Another one may have come on top of it: that stays. */
	__atomic_compare_exchange_n(&page->command, &command, UMBRA_COMMAND_NONE, false,
				    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
