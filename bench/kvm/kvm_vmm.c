/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-vmm IMAGE WORDS: a virtual machine monitor on /dev/kvm with just what aliases.c needs: a
 * vcpu in long mode on an identity map, 64 MiB of memory and the spare memory in a slot of its
 * own, a serial port that only prints, and the control ports. What it does to the spare memory,
 * and times: kvm_host.c.
 */
#include "kvm_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <umbra/machine.h>

#define RAM_BYTES  (64ull << 20)
#define HUGE       (2ull << 20)
#define AT_PARAMS  0x10000ull
#define AT_LINE    0x11000ull
#define AT_TABLES  0x20000ull /* pml4, pdpt, four page directories */
#define AT_IMAGE   0x1000000ull
#define ENTRY      (AT_IMAGE + 0x200)
#define COM1       0x3f8
#define SHADOW_MAX 16384ul /* as umbra's quota */

_Noreturn void die(const char *what)
{
	fprintf(stderr, "kvm-vmm: %s: %s\n", what, strerror(errno));
	exit(1);
}

int call(int fd, unsigned long request, void *argument, const char *what)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die(what);
	return result;
}

static void *allocate(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("memory");
	/* umbra hands out pages of 4 KiB: so that both take away the same. */
	madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

void slot_set(struct machine *m, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size,
	      void *memory)
{
	struct kvm_userspace_memory_region region = {
	    .slot = id,
	    .flags = flags,
	    .guest_phys_addr = gpa,
	    .memory_size = size,
	    .userspace_addr = (uintptr_t)memory,
	};

	call(m->vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

void spare_set(struct machine *m, uint32_t flags, bool there)
{
	slot_set(m, 1, flags, SPARE_GPA, there ? SPARE_BYTES : 0, m->spare);
}

static uint32_t control(struct machine *m, uint32_t operation)
{
	switch (operation) {
	case UMBRA_CTL_POWEROFF:
		exit(0);
	case UMBRA_CTL_RANGE_FIRST:
		m->first = m->argument;
		return 0;
	case UMBRA_CTL_RANGE_PAGES:
		m->pages = m->argument;
		return 0;
	case UMBRA_CTL_RANGE_SPTES:
		return UINT32_MAX; /* KVM does not tell */
	case UMBRA_CTL_PEEK:
		return 0;
	case UMBRA_CTL_RANGE_FOUND:
		return (uint32_t)m->found;
	default:
		return host_operate(m, operation);
	}
}

/* ------------------------------------------------------------------ the machine */

static void load(struct machine *m, const char *path, const char *words)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat file;
	uint32_t line = AT_LINE;

	if (fd < 0 || fstat(fd, &file) != 0 || file.st_size <= 0x400)
		die(path);
	if (pread(fd, m->ram + AT_IMAGE, (size_t)file.st_size - 0x400, 0x400) !=
	    file.st_size - 0x400)
		die(path);
	close(fd);
	memcpy(m->ram + AT_PARAMS + 0x228, &line, sizeof(line));
	snprintf((char *)m->ram + AT_LINE, PAGE, "%s", words);
}

static void identity_map(struct machine *m)
{
	uint64_t *table = (uint64_t *)(m->ram + AT_TABLES);

	table[0] = (AT_TABLES + PAGE) | 7;
	for (uint64_t i = 0; i < 4; i++)
		table[512 + i] = (AT_TABLES + (2 + i) * PAGE) | 7;
	for (uint64_t i = 0; i < 2048; i++)
		table[1024 + i] = i << 21 | 0xe7;
}

static void set_registers(struct machine *m)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = ENTRY, .rsi = AT_PARAMS, .rflags = 2};

	call(m->vcpu, KVM_GET_SREGS, &s, "KVM_GET_SREGS");
	s.cs = (struct kvm_segment){.limit = 0xffffffff,
				    .selector = 0x10,
				    .type = 11,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1};
	s.ds = (struct kvm_segment){.limit = 0xffffffff,
				    .selector = 0x18,
				    .type = 3,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1};
	s.es = s.ss = s.fs = s.gs = s.ds;
	s.cr0 = 0x80010011; /* PG WP ET PE */
	s.cr3 = AT_TABLES;
	s.cr4 = 0x20;   /* PAE */
	s.efer = 0xd00; /* NXE LMA LME */
	call(m->vcpu, KVM_SET_SREGS, &s, "KVM_SET_SREGS");
	call(m->vcpu, KVM_SET_REGS, &r, "KVM_SET_REGS");
}

static void set_cpuid(struct machine *m, int kvm)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 128 * sizeof(cpuid->entries[0]));

	if (!cpuid)
		die("memory");
	cpuid->nent = 128;
	call(kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
	call(m->vcpu, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	free(cpuid);
}

static void create(struct machine *m)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), size;

	if (kvm < 0)
		die("/dev/kvm");
	m->vm = call(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	call(m->vm, KVM_SET_NR_MMU_PAGES, (void *)SHADOW_MAX, "KVM_SET_NR_MMU_PAGES");
	m->ram = allocate(RAM_BYTES);
	m->spare = allocate(SPARE_BYTES + HUGE);
	m->spare += -(uintptr_t)m->spare % HUGE;
	/* The rest of us shall not be what is aged, or swapped out. */
	if (mlockall(MCL_CURRENT | MCL_ONFAULT) || munlock(m->spare, SPARE_BYTES))
		die("mlockall");
	slot_set(m, 0, 0, 0, RAM_BYTES, m->ram);
	spare_set(m, 0, true);
	m->vcpu = call(m->vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	size = call(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	m->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	if (m->run == MAP_FAILED)
		die("kvm_run");
	set_cpuid(m, kvm);
	close(kvm);
}

static void port_exit(struct machine *m)
{
	uint8_t *data = (uint8_t *)m->run + m->run->io.data_offset;
	bool out = m->run->io.direction == KVM_EXIT_IO_OUT;
	uint32_t value;

	memcpy(&value, data, sizeof(value));
	if (out && m->run->io.port == COM1)
		putchar(*data);
	else if (out && m->run->io.port == UMBRA_CTL_ARG)
		m->argument = value;
	else if (out && m->run->io.port == UMBRA_CTL)
		m->result = control(m, value);
	else if (!out)
		memcpy(data, &m->result, m->run->io.size);
}

int main(int argc, char **argv)
{
	struct machine m = {0};

	if (argc != 3) {
		fprintf(stderr, "usage: kvm-vmm IMAGE WORDS\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	create(&m);
	load(&m, argv[1], argv[2]);
	identity_map(&m);
	set_registers(&m);
	for (;;) {
		if (ioctl(m.vcpu, KVM_RUN, NULL) < 0 && errno != EINTR)
			die("KVM_RUN");
		if (m.run->exit_reason == KVM_EXIT_IO) {
			port_exit(&m);
		} else if (m.run->exit_reason != KVM_EXIT_INTR) {
			fprintf(stderr, "kvm-vmm: exit reason %u\n", m.run->exit_reason);
			return 1;
		}
	}
}
