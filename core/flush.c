/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flushes: what an operation took away is unreachable only after the vcpus' TLBs forgot it.
 * Operations gather in a struct flush and commit once, at their end; zapped shadow pages wait
 * on the pending list for a commit that covers every vcpu.
 *
 * A guest that changes its own tables owes the flush itself, so nothing is flushed for its
 * other vcpus then. But the sptes are gone from the reverse map, while those TLBs may still hold
 * them: flush_later() remembers that, and the next operation that revokes anything for the
 * host's sake flushes those vcpus even if it finds no spte. Operations that give up the lock half
 * way, and those whose flush is gathered (umbra_invalidate_gather), note what they took the same
 * way.
 *
 * Lock: the MMU's; host.flush is called under it.
 */
#include "vcpu.h"

/* Everything, on every vcpu. */
void flush_all(struct umbra_mmu *mmu, struct flush *flush)
{
	flush->vcpus |= mmu->vcpus;
	flush->pages = 0;
	flush->gva = 0;
}

/* Everything, on one vcpu. */
void flush_vcpu(const struct umbra_vcpu *vcpu, struct flush *flush)
{
	flush->vcpus |= 1ull << vcpu->number;
	flush->pages = 0;
	flush->gva = 0;
}

/*
 * One page, on one vcpu; no more than that if nothing was gathered yet. With nested paging its gva
 * is not known.
 */
void flush_page(const struct umbra_vcpu *vcpu, struct flush *flush, uint64_t gva)
{
	bool first = !flush->vcpus && !vcpu->mmu->config.nested;

	flush->vcpus |= 1ull << vcpu->number;
	flush->gva = first ? gva & ~(uint64_t)(UMBRA_PAGE_SIZE - 1) : 0;
	flush->pages = first ? 1 : 0;
}

/* The guest took something away that other TLBs may hold until it flushes them. */
void flush_later(struct umbra_mmu *mmu)
{
	mmu->tlb_stale = mmu->vcpus;
}

/*
 * Call the host if anything was gathered, and free what waited for it.
 *
 * => returns whether the host was called
 */
bool flush_commit(struct umbra_mmu *mmu, struct flush *flush)
{
	struct umbra_flush named = {.vcpus = flush->vcpus & mmu->vcpus};

	if (!named.vcpus && mmu->vcpus)
		return false;
	if (flush->pages) {
		named.gva = flush->gva;
		named.pages = flush->pages;
	} else {
		mmu->tlb_stale &= ~named.vcpus;
		if (named.vcpus == mmu->vcpus) {
			mmu->whole_flushes++;
			shadow_release_pending(mmu);
		}
	}
	*flush = (struct flush){0};
	if (!named.vcpus)
		return false;
	mmu->stats.flushes++;
	mmu->host.flush(mmu->ctx, &named);
	return true;
}
