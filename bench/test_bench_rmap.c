/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test: the implementations of the reverse-map benchmark that need nothing from outside do the
 * same to the same sptes. KVM's is checked by the benchmark itself, which fetches it.
 */
#include "bench_rmap.h"

int main(void)
{
	static const struct impl *const impls[] = {&impl_umbra, &impl_onebyone, &impl_patch,
						   &impl_store, &impl_xchg};

	memory_open(1ull << 30);
	return !check_agree(impls, sizeof(impls) / sizeof(impls[0]));
}
