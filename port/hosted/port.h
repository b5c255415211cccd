/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Port header, user space: the few primitives that core/ takes from its surroundings.
 *
 * A port provides, under this name on the include path:
 *   struct port_lock        zero-initialised = unlocked
 *   port_lock, port_unlock  a mutual exclusion lock with acquire and release order, fair: who
 *                           waits gets it before who gave it up last
 *   port_pause              called in spin loops
 *   port_assert             an invariant of ours; never about what a guest does
 *   memcpy, memset          as in C17 §7.24
 */
#ifndef UMBRA_PORT_H
#define UMBRA_PORT_H

#include <assert.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

struct port_lock {
	_Atomic unsigned next, owner; /* tickets */
};

static inline void port_pause(void)
{
	sched_yield();
}

static inline void port_lock(struct port_lock *lock)
{
	unsigned ticket = atomic_fetch_add_explicit(&lock->next, 1, memory_order_relaxed);

	while (atomic_load_explicit(&lock->owner, memory_order_acquire) != ticket)
		port_pause();
}

static inline void port_unlock(struct port_lock *lock)
{
	unsigned owner = atomic_load_explicit(&lock->owner, memory_order_relaxed);

	atomic_store_explicit(&lock->owner, owner + 1, memory_order_release);
}

#define port_assert(condition) assert(condition)

#endif
