/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Port header, bare metal: the primitives that core/ takes from its surroundings when it is
 * linked into the hypervisor. The list of what a port provides is in port/hosted/port.h.
 */
#ifndef UMBRA_PORT_H
#define UMBRA_PORT_H

#include <stdatomic.h>
#include <stddef.h>

struct port_lock {
	_Atomic unsigned next, owner; /* tickets */
};

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);

/* The hypervisor's panic: dumps its state on COM1 and stops the machine. */
_Noreturn void port_assert_failed(const char *condition, const char *file, int line);

static inline void port_pause(void)
{
	__asm__ volatile("pause");
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

#define port_assert(condition) \
	((condition) ? (void)0 : port_assert_failed(#condition, __FILE__, __LINE__))

#endif
