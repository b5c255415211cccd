/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine for enumerating: one vcpu, no TLB, guest memory that exists where it is touched, and
 * processors' walks over the shadow tables done in place. Each touch is judged by the reference
 * walker (ref/): verdict, error code, gpa, each word of the guest's tables, and what the
 * hardware would then let pass.
 *
 *     gpa  0          tables (the first 2 MiB of a slot)
 *          512 MiB    the same slot; the host calls frames here not writable
 *          1 GiB      memory
 *          2 GiB      a read-only slot
 *          3 GiB      nothing
 *          4 GiB      as at 512 MiB
 *          5 GiB      memory
 */
#ifndef TOUCH_H
#define TOUCH_H

#include <stdbool.h>
#include <stdint.h>

#include <umbra/umbra.h>

#include "ref.h"

#define KINDS 6u /* of accesses: read, write, fetch; by the kernel and by users */

struct toucher;

struct touch_state {
	struct umbra_paging paging;
	bool ac;
	uint32_t pkru, pkrs;
	unsigned backing; /* level that the host has memory in: 1, 2, 3 */
};

struct toucher *toucher_create(const struct umbra_config *config);
void toucher_destroy(struct toucher *toucher);

/* Registers and backing; every mapping goes if the backing changes. NULL, or what is wrong. */
const char *toucher_set(struct toucher *toucher, const struct touch_state *state);

/* A guest's entry of @size bytes (4, 8) at @gpa is @value now, if it was not. */
void toucher_write(struct toucher *toucher, uint64_t gpa, uint64_t value, unsigned size);

/*
 * The first touch of @gva, by an access of @kind, and then one by each kind. => NULL, or what is
 * wrong; *touches grows
 */
const char *toucher_touch(struct toucher *toucher, uint64_t gva, unsigned kind, uint64_t *touches);

/* The audit. => NULL, or what is wrong */
const char *toucher_audit(struct toucher *toucher);

struct umbra_stats toucher_stats(struct toucher *toucher);

#endif
