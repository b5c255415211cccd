/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel's headers would give to KVM's reverse map, first part: types and primitives
 * that need none of KVM's own. Written for this benchmark. No shim does more work than what
 * it stands for; where one does less, that is in KVM's favour, and said here:
 *
 *   WARN_ON_ONCE, WARN_ONCE    nothing (the kernel tests and branches)
 *   BUG_ON                     tests and aborts, as the kernel does
 *   READ_ONCE, WRITE_ONCE, xchg, atomic64_add   the same instructions as the kernel's
 *   need_resched, rwlock_needbreak, lockdep_*   nothing (the kernel reads a flag)
 *   pfn_to_page, page_private  an array by page frame, 8 bytes a frame (the kernel's: 64)
 *   kvm_pfn_to_refcounted_page, kvm_set_pfn_accessed, kvm_set_pfn_dirty   nothing (the kernel
 *                              looks up struct page, and may write it)
 */
#ifndef SHIM_KVM_BASE_H
#define SHIM_KVM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef uint64_t gfn_t;
typedef uint64_t hpa_t;
typedef uint64_t kvm_pfn_t;
typedef struct {
	long long counter;
} atomic64_t;
typedef struct {
	long counter;
} atomic_long_t;
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	atomic_t refs;
} refcount_t;
typedef struct {
	int unused;
} rwlock_t;

struct list_head {
	struct list_head *next, *prev;
};
struct hlist_node {
	struct hlist_node *next, **pprev;
};
struct rb_node {
	struct rb_node *rb_right, *rb_left;
};
struct rb_root {
	struct rb_node *rb_node;
};
struct rcu_head {
	void *next, *func;
};

#define CONFIG_X86_64 1
#define __rcu
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define likely(x)       __builtin_expect(!!(x), 1)
#define unlikely(x)     __builtin_expect(!!(x), 0)

#define PAGE_SHIFT                     12
#define PAGE_SIZE                      4096ul
#define BIT(n)                         (1ul << (n))
#define BIT_ULL(n)                     (1ull << (n))
#define DECLARE_BITMAP(name, n)        unsigned long name[(n) / 64]
#define container_of(at, type, member) ((type *)((char *)(at)-offsetof(type, member)))

/* Debian sets CONFIG_BUG_ON_DATA_CORRUPTION. */
#define IS_ENABLED(option) 1
#define BUG_ON(condition)  (unlikely(condition) ? abort() : (void)0)
#define WARN_ON_ONCE(x)          \
	({                       \
		(void)sizeof(x); \
		0;               \
	})
#define WARN_ONCE(x, ...)               ((void)sizeof(x))
#define KVM_MMU_WARN_ON(x)              ((void)sizeof((long)(x)))
#define lockdep_assert_held_write(lock) ((void)(lock))
#define need_resched()                  0
#define rwlock_needbreak(lock)          ((void)(lock), 0)
#define cond_resched_rwlock_write(lock) ((void)(lock))

#define READ_ONCE(x)               (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)       (*(volatile __typeof__(x) *)&(x) = (value))
#define xchg(at, value)            __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST)
#define atomic_long_read(at)       READ_ONCE((at)->counter)
#define atomic_long_set(at, value) WRITE_ONCE((at)->counter, value)

static inline void atomic64_add(long long n, atomic64_t *at)
{
	__asm__ volatile("lock addq %1, %0" : "+m"(at->counter) : "er"(n) : "memory");
}

enum {
	PG_LEVEL_NONE,
	PG_LEVEL_4K,
	PG_LEVEL_2M,
	PG_LEVEL_1G
};
#define PT_WRITABLE_MASK           BIT_ULL(1)
#define PT_USER_MASK               BIT_ULL(2)
#define VMX_EPT_RWX_MASK           7ull
#define VMX_EPT_SUPPRESS_VE_BIT    BIT_ULL(63)
#define VMX_EPT_MISCONFIG_WX_VALUE 6ull

/* Page frames are counted from the first byte of the benchmark's memory. */
struct page {
	unsigned long private;
};
extern struct page *shim_pages;
extern uintptr_t shim_base;
#define __pa(at)           ((hpa_t)((uintptr_t)(at)-shim_base))
#define pfn_to_page(pfn)   (shim_pages + (pfn))
#define page_private(page) ((page)->private)
#define page_count(page)   ((void)(page), 1)

static inline struct page *kvm_pfn_to_refcounted_page(kvm_pfn_t pfn)
{
	(void)pfn;
	return NULL;
}

static inline void kvm_set_pfn_accessed(kvm_pfn_t pfn)
{
	(void)pfn;
}

static inline void kvm_set_pfn_dirty(kvm_pfn_t pfn)
{
	(void)pfn;
}

#endif
