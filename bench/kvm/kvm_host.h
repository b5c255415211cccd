/* SPDX-License-Identifier: BSD-2-Clause */
/* What a Linux host does to the spare memory of kvm-vmm's guest, timed. See kvm_host.c. */
#ifndef BENCH_KVM_HOST_H
#define BENCH_KVM_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE        4096ull
#define SPARE_GPA   (1ull << 39)
#define SPARE_BYTES (16ull << 20)

struct machine {
	int vm, vcpu;
	struct kvm_run *run;
	uint8_t *ram, *spare;
	uint32_t argument, result;
	uint64_t first, pages; /* the range, gfns */
	uint64_t found;        /* pages, by the last operation */
	uint64_t dirty[SPARE_BYTES / PAGE / 64];
};

_Noreturn void die(const char *what);

/* ioctl() that must not fail: says @what did. */
int call(int fd, unsigned long request, void *argument, const char *what);

void slot_set(struct machine *m, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size,
	      void *memory);

/* The spare memory's slot; @there false: deletes it. */
void spare_set(struct machine *m, uint32_t flags, bool there);

/* One of UMBRA_CTL_RANGE_*, of those that are timed; ticks, or UINT32_MAX: it cannot be. */
uint32_t host_operate(struct machine *m, uint32_t operation);

#endif
