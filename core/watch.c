/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watches: the embedder is told when the guest touches a page.
 *
 * mmu.watch[] is sorted by gfn; an entry says which kinds are armed. An armed kind is granted by no
 * spte (invariant 8): arming takes it away by reverse map and flushes; whoever makes an spte asks
 * watch_withheld() first, or makes none for more than 4 KiB. So the access comes to umbra_fault(),
 * which tells host.touched, disarms the kind, and lets the access go on: from then on the page
 * costs what any page costs. Accesses that the embedder makes for the guest are told in
 * umbra_translate().
 *
 *     armed       R             W               X
 *     no spte     at all        has W           lacks NX
 *
 * x86 cannot grant writing or executing without reading, so whatever touches the page touches an R.
 *
 * Where nothing is watched, all this costs a test of mmu.watches.
 *
 * Lock: the MMU's, taken in umbra_watch().
 */
#include "vcpu.h"

/* The first entry from @gfn on; mmu->watches: there is none. */
static uint32_t place_of(const struct umbra_mmu *mmu, uint64_t gfn)
{
	uint32_t low = 0, high = mmu->watches;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (mmu->watch[middle].gfn < gfn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What is armed for @gfn; 0: nothing. */
unsigned watch_kinds(const struct umbra_mmu *mmu, umbra_gfn gfn)
{
	uint32_t at = place_of(mmu, gfn.n);

	return at < mmu->watches && mmu->watch[at].gfn == gfn.n ? mmu->watch[at].kinds : 0;
}

/* Whether something is armed in gfns [@first, @end). */
bool watch_overlaps(const struct umbra_mmu *mmu, uint64_t first, uint64_t end)
{
	uint32_t at = place_of(mmu, first);

	return at < mmu->watches && mmu->watch[at].gfn < end;
}

/* gfns [@first, @end) are no memory any more. */
void watch_forget(struct umbra_mmu *mmu, uint64_t first, uint64_t end)
{
	uint32_t from = place_of(mmu, first), to = place_of(mmu, end);

	for (uint32_t i = to; i < mmu->watches; i++)
		mmu->watch[from + i - to] = mmu->watch[i];
	mmu->watches -= to - from;
}

/* From now on @kinds are armed for @gfn. UMBRA_ENOMEM: UMBRA_WATCHES_MAX others are. */
static int set(struct umbra_mmu *mmu, uint64_t gfn, unsigned kinds)
{
	uint32_t at = place_of(mmu, gfn);

	if (!kinds) {
		watch_forget(mmu, gfn, gfn + 1);
		return 0;
	}
	if (at == mmu->watches || mmu->watch[at].gfn != gfn) {
		if (mmu->watches == UMBRA_WATCHES_MAX)
			return UMBRA_ENOMEM;
		for (uint32_t i = mmu->watches++; i > at; i--)
			mmu->watch[i] = mmu->watch[i - 1];
	}
	mmu->watch[at] = (struct watch){.gfn = gfn, .kinds = kinds};
	return 0;
}

/* The rights among @rights that an armed kind of @gfn withholds. */
unsigned watch_withheld(const struct umbra_mmu *mmu, umbra_gfn gfn, unsigned rights)
{
	unsigned kinds = watch_kinds(mmu, gfn);

	return rights &
	       ((kinds & UMBRA_WATCH_W ? ACCESS_W : 0) | (kinds & UMBRA_WATCH_X ? ACCESS_X : 0));
}

/*
 * The access of the kind @error_code to @gpa is about to be let through: tell of what it touches,
 * and disarm that.
 */
void watch_touch(struct umbra_vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t error_code)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	umbra_gfn gfn = {gpa >> UMBRA_PAGE_SHIFT};
	unsigned armed = watch_kinds(mmu, gfn);
	unsigned kinds = UMBRA_WATCH_R | (error_code & UMBRA_PF_W   ? UMBRA_WATCH_W
					  : error_code & UMBRA_PF_I ? UMBRA_WATCH_X
								    : 0);
	const struct umbra_touch touch = {
	    .gfn = gfn,
	    .gva = gva,
	    .gpa = gpa,
	    .vcpu = vcpu->number,
	    .kind = armed & kinds,
	    .access = error_code & (UMBRA_PF_W | UMBRA_PF_U | UMBRA_PF_I),
	};

	if (!touch.kind)
		return;
	set(mmu, gfn.n, armed & ~touch.kind);
	mmu->host.touched(mmu->ctx, &touch);
}

/* The same; of @rights, those that an spte may have then. */
unsigned watch_let(struct umbra_vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t error_code,
		   unsigned rights)
{
	watch_touch(vcpu, gva, gpa, error_code);
	return rights & ~watch_withheld(vcpu->mmu, (umbra_gfn){gpa >> UMBRA_PAGE_SHIFT}, rights);
}

/* No spte of @held's page grants @kinds any more. => the lock may have been given up meanwhile */
static void take_away(struct umbra_mmu *mmu, struct held *held, unsigned kinds, struct flush *flush)
{
	struct sweep sweep = {.large_only = !(kinds & (UMBRA_WATCH_R | UMBRA_WATCH_X))};
	struct protect protect = {0};

	drop_hold(mmu, held, &sweep, flush);
	if (!sweep.large_only)
		return;
	drop_release(mmu, held);
	protect_hold(mmu, held, &protect, flush);
}

int umbra_watch(struct umbra_mmu *mmu, umbra_gfn gfn, unsigned kinds)
{
	struct held held = {.first = gfn.n, .end = gfn.n + 1};
	struct flush flush = {0};
	unsigned more;
	int error = 0;

	if (kinds & ~(unsigned)(UMBRA_WATCH_R | UMBRA_WATCH_W | UMBRA_WATCH_X) ||
	    (kinds && !mmu->host.touched))
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	more = kinds & ~watch_kinds(mmu, gfn);
	if (!slot_find(mmu, gfn))
		error = UMBRA_ENOENT;
	else if (more && mmu->watches == UMBRA_WATCHES_MAX && !watch_kinds(mmu, gfn))
		error = UMBRA_ENOMEM;
	if (!error && more) {
		take_away(mmu, &held, more, &flush);
		flush_commit(mmu, &flush);
		drop_release(mmu, &held);
		if (!slot_find(mmu, gfn)) /* it went meanwhile */
			error = UMBRA_ENOENT;
	}
	if (!error)
		error = set(mmu, gfn.n, kinds);
	port_unlock(&mmu->lock);
	return error;
}
