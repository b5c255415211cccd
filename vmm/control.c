/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest's workload asks of the hypervisor, and the jobs that go on meanwhile. Long jobs
 * (migrating the region, the storm) run in pieces of PIECE pages between guest entries, so that the
 * guest goes on running and interrupts stay prompt. Owns the region list and the figures of
 * migrations, zaps and audits in the machine page.
 */
#include "books.h"
#include "command.h"
#include "control.h"
#include "host.h"
#include "cpu.h"
#include "host.h"
#include "machine.h"
#include "memory.h"
#include "print.h"
#include "range.h"
#include "schedule.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define PIECE       16
#define AUDIT_SHARE 16u

int control_init(struct vm *vm)
{
	struct control *c = &vm->control;

	c->region = pool_alloc(vm->frames, vm->pages * sizeof(c->region[0]));
	c->storm_rate = vm->options.storm;
	c->storm_due = rdtsc();
	c->quota = (uint32_t)vm->options.quota;
	c->answer = pool_alloc(vm->frames, UMBRA_ANSWER_BYTES);
	vm->machine->answer = (uintptr_t)c->answer;
	return c->region && c->answer ? 0 : UMBRA_ENOMEM;
}

void control_destroy(struct vm *vm)
{
	pool_free(vm->frames, vm->control.region, vm->pages * sizeof(vm->control.region[0]));
	vm->control.region = NULL;
}

static void out_of_frames(struct vm *vm)
{
	machine_end(vm, UMBRA_END_NOMEM, "no free frame to migrate a page to%s",
		    swap_excuse(vm->host));
}

static void storm_piece(struct vm *vm, uint64_t now)
{
	struct control *c = &vm->control;
	uint64_t step = vm->cpu->tsc_hz / c->storm_rate;

	for (int i = 0; i < PIECE && c->storm_due <= now; i++) {
		uint64_t gfn, sptes, ticks;

		c->storm_due += step;
		if (!memory_random(vm, &gfn))
			continue;
		if (memory_migrate(vm, gfn, &sptes, &ticks) == UMBRA_ENOMEM)
			out_of_frames(vm);
		vm->machine->migrations++;
		vm->vcpu->stuck = 0;
	}
	if (c->storm_due + vm->cpu->tsc_hz < now) /* hopelessly late: not all at once */
		c->storm_due = now;
}

static void region_piece(struct vm *vm)
{
	struct control *c = &vm->control;
	struct umbra_machine *page = vm->machine;

	for (int i = 0; i < PIECE && c->region_next < c->region_count; i++) {
		uint64_t sptes, ticks;
		int error = memory_migrate(vm, c->region[c->region_next++], &sptes, &ticks);

		if (error == UMBRA_ENOMEM)
			out_of_frames(vm);
		if (error)
			continue;
		page->migrations++;
		page->migrations_region++;
		page->drop_gfns++;
		page->drop_sptes += sptes;
		page->drop_tsc += ticks;
		if (ticks > page->drop_longest_tsc)
			page->drop_longest_tsc = ticks;
		vm->vcpu->stuck = 0;
	}
	c->migrating = c->region_next < c->region_count;
}

uint32_t control_audit(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;
	struct umbra_audit report = {0};
	uint64_t violations = mmu_audit(vm, &report), wrong, where = 0;
	const char *what = NULL;

	machine_stats(vm); /* the moment is worth keeping: the children are at work */
	page->audits++;
	if (violations && !page->audit_violations)
		format(page->message, sizeof(page->message),
		       "audit: invariant %u violated at gfn %lx, spte %lx: %s", report.invariant,
		       report.gfn, report.spte, report.what ? report.what : "");
	wrong = books_audit(vm->host, &what, &where);
	if (wrong && !violations && !page->audit_violations)
		format(page->message, sizeof(page->message), "audit: books of frames: %lx: %s",
		       where, what);
	violations += wrong;
	page->audit_violations += violations;
	return violations > UINT32_MAX ? UINT32_MAX : (uint32_t)violations;
}

/*
 * The guest asks for an audit, which goes over the books of all guests while none of them runs. All
 * that are asked for take AUDIT_SHARE-th of the machine's time at most, in equal parts; sooner a
 * guest gets what its last one found. A guest alone takes nobody's time but its own.
 */
static uint32_t audit_asked(struct vm *vm)
{
	struct control *c = &vm->control;
	uint64_t begun = rdtsc(), end;

	if (begun < c->audit_due && schedule_has_others(vm))
		return c->audit_found;
	c->audit_found = control_audit(vm);
	end = rdtsc();
	c->audit_due = end + (end - begun) * AUDIT_SHARE * vm->host->guests;
	return c->audit_found;
}

static uint32_t longest(struct vm *vm)
{
	uint64_t best = 0, sptes;

	for (uint64_t i = 0; i < vm->control.region_count; i++)
		if (!umbra_rmap_count(vm->mmu, (umbra_gfn){vm->control.region[i]}, &sptes) &&
		    sptes > best)
			best = sptes;
	return best > UINT32_MAX ? UINT32_MAX : (uint32_t)best;
}

static uint32_t peek(const struct umbra_machine *page, uint32_t offset)
{
	uint32_t word;

	if (offset > sizeof(*page) - sizeof(word))
		return UINT32_MAX;
	memcpy(&word, (const char *)page + offset, sizeof(word));
	return word;
}

bool control_is_asked(const struct vm *vm)
{
	return vm->control.logs || vm->watching.count;
}

void control_storm(struct vm *vm, uint64_t rate)
{
	vm->control.storm_rate = rate < UMBRA_STORM_RATE_MAX ? rate : UMBRA_STORM_RATE_MAX;
	vm->control.storm_due = rdtsc();
}

int control_quota(struct vm *vm, uint64_t pages)
{
	int error;

	if (!pages || pages > vm->options.quota)
		pages = vm->options.quota;
	error = mmu_quota_set(vm, (uint32_t)pages);
	if (!error)
		vm->control.quota = (uint32_t)pages;
	return error;
}

/* One operation of enum umbra_ctl; returns its result. */
static uint32_t operate(struct vm *vm, uint32_t operation)
{
	struct control *c = &vm->control;
	struct umbra_machine *page = vm->machine;
	uint32_t argument = c->argument;

	switch (operation) {
	case UMBRA_CTL_INIT:
		record_mark(vm, operation, argument);
		if (!page->tsc_init)
			page->tsc_init = rdtsc();
		page->phase = UMBRA_PHASE_INIT;
		return 0;
	case UMBRA_CTL_RESULT:
		record_mark(vm, operation, argument);
		page->workload = argument ? 2 : 1;
		return 0;
	case UMBRA_CTL_POWEROFF:
		machine_end(vm, UMBRA_END_POWEROFF, "the guest powered off");
	case UMBRA_CTL_REGION_ADD:
		if (c->migrating || c->region_count >= vm->pages)
			return 1;
		c->region[c->region_count++] = argument;
		return 0;
	case UMBRA_CTL_REGION_CLEAR:
		c->migrating = false;
		c->region_count = c->region_next = 0;
		return 0;
	case UMBRA_CTL_MIGRATE:
		if (c->migrating)
			return 1;
		c->region_next = 0;
		c->migrating = c->region_count != 0;
		return 0;
	case UMBRA_CTL_MIGRATE_LEFT:
		return c->migrating ? (uint32_t)(c->region_count - c->region_next) : 0;
	case UMBRA_CTL_ZAP_ALL:
		mmu_zap_all(vm);
		page->zaps++;
		return 0;
	case UMBRA_CTL_QUOTA:
		return (uint32_t)control_quota(vm, argument);
	case UMBRA_CTL_STORM:
		control_storm(vm, argument);
		return 0;
	case UMBRA_CTL_AUDIT:
		return audit_asked(vm);
	case UMBRA_CTL_LONGEST:
		return longest(vm);
	case UMBRA_CTL_STORM_COUNT:
		return (uint32_t)page->migrations;
	case UMBRA_CTL_READ_ONLY:
		if (control_is_asked(vm))
			return 1;
		return memory_slot_protect(vm, argument & ~UMBRA_CTL_PROTECT,
					   argument & UMBRA_CTL_PROTECT) != 0;
	case UMBRA_CTL_PEEK:
		return peek(page, argument);
	default:
		return range_operate(vm, operation, argument);
	}
}

uint32_t control_port_read(struct vm *vm, uint16_t port)
{
	return port == UMBRA_CTL ? UMBRA_CTL_ID : vm->control.result;
}

void control_port_write(struct vm *vm, uint16_t port, uint32_t value)
{
	if (port == UMBRA_CTL_ARG)
		vm->control.argument = value;
	else
		vm->control.result = operate(vm, value);
}

void control_poll(struct vm *vm, uint64_t now)
{
	struct control *c = &vm->control;
	uint32_t command = __atomic_load_n(&vm->machine->command, __ATOMIC_ACQUIRE);

	swap_poll(vm->host, now);
	if (c->migrating)
		region_piece(vm);
	if (c->storm_rate && c->storm_due <= now)
		storm_piece(vm, now);
	merge_poll(vm->host, vm->cpu->tsc_hz, now);
	compact_poll(vm->host, vm->cpu->tsc_hz, now);
	if (vm->watching.tired)
		watch_poll(vm, now);
	if (vm->options.audit && ++c->audit_exits >= vm->options.audit) {
		c->audit_exits = 0;
		control_audit(vm);
	}
	if (command != UMBRA_COMMAND_NONE)
		command_obey(vm, command);
}

uint64_t control_next(const struct vm *vm, uint64_t now)
{
	const struct control *c = &vm->control;
	uint64_t next = now + vm->cpu->tsc_hz / 10; /* look for commands */

	if (c->migrating)
		next = now + vm->cpu->tsc_hz / 2000;
	if (c->storm_rate && c->storm_due < next)
		next = c->storm_due;
	if (vm->host->merge.rate && vm->host->merge.due < next)
		next = vm->host->merge.due;
	if (vm->host->compact.rate && vm->host->compact.due < next)
		next = vm->host->compact.due;
	if (vm->watching.tired && vm->watching.due < next)
		next = vm->watching.due;
	if (swap_next(vm->host, now) < next)
		next = swap_next(vm->host, now);
	return next;
}
