/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which kind of image the guest is, and what its loaders share: the memory map and the states that
 * entries begin in.
 */
#include <umbra/machine.h>

#include "bios.h"
#include "loader.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "x86.h"

#define GDT_ENTRIES 4

uint64_t field(const uint8_t *at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, at, size);
	return value;
}

void field_set(uint8_t *at, unsigned size, uint64_t value)
{
	memcpy(at, &value, size);
}

void loader_refuse(struct vcpu *vcpu, const char *why)
{
	machine_end(vcpu->vm, UMBRA_END_IMAGE, "%s", why);
}

uint64_t loader_low_end(const struct vm *vm)
{
	return vm->options.memory < MEMORY_LOW_MAX ? vm->options.memory : MEMORY_LOW_MAX;
}

unsigned loader_map(const struct vm *vm, struct loader_region *regions)
{
	unsigned n = 0;

	regions[n++] = (struct loader_region){0, 0x9fc00, 1};
	regions[n++] = (struct loader_region){0x9fc00, 0xa0000, 2}; /* extended BIOS data */
	for (unsigned i = 0; i < vm->slot_count; i++) {
		uint64_t start = vm->slots[i].first << UMBRA_PAGE_SHIFT;
		uint64_t end = start + (vm->slots[i].pages << UMBRA_PAGE_SHIFT);

		if (start)
			regions[n++] =
			    (struct loader_region){start, end, vm->slots[i].reserved ? 2 : 1};
	}
	/* By address, which the slots are not. */
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j && regions[j].start < regions[j - 1].start; j--) {
			struct loader_region region = regions[j];

			regions[j] = regions[j - 1];
			regions[j - 1] = region;
		}
	return n;
}

bool loader_gdt_write(struct vm *vm, uint64_t at)
{
	static const uint64_t gdt[GDT_ENTRIES] = {0, 0x00af9b000000ffffull, 0x00cf9b000000ffffull,
						  0x00cf93000000ffffull};

	return memory_write(vm, at, gdt, sizeof(gdt));
}

void loader_enter_32(struct vcpu *vcpu, uint64_t gdt, uint64_t entry)
{
	struct emu_segment data = {0x18, 0xc93, 0xffffffff, 0};
	struct vmcb *vmcb = vcpu->vmcb;

	vmcb->cs = (struct emu_segment){0x10, 0xc9b, 0xffffffff, 0};
	vmcb->ds = vmcb->es = vmcb->ss = vmcb->fs = vmcb->gs = data;
	vmcb->gdtr.base = gdt;
	vmcb->gdtr.limit = GDT_ENTRIES * 8 - 1;
	vmcb->tr = (struct emu_segment){0, 0x089, 0xffff, 0};
	vmcb->ldtr = (struct emu_segment){0, 0x082, 0xffff, 0};
	vmcb->rip = entry;
	vcpu->cr0 = CR0_ET | CR0_PE;
	vcpu->cr3 = vcpu->cr4 = vcpu->efer = 0;
}

static struct emu_segment real_segment(uint16_t selector, uint16_t attributes)
{
	return (struct emu_segment){selector, attributes, 0xffff, (uint64_t)selector << 4};
}

void loader_enter_real(struct vcpu *vcpu, uint16_t cs, uint16_t ip, uint16_t ds, uint16_t sp)
{
	struct vmcb *vmcb = vcpu->vmcb;

	vmcb->cs = real_segment(cs, 0x9b);
	vmcb->ds = vmcb->es = vmcb->ss = vmcb->fs = vmcb->gs = real_segment(ds, 0x93);
	vmcb->gdtr = vmcb->idtr = (struct emu_segment){0, 0, 0xffff, 0};
	vmcb->idtr.limit = 0x3ff;
	vmcb->tr = (struct emu_segment){0, 0x089, 0xffff, 0};
	vmcb->ldtr = (struct emu_segment){0, 0x082, 0xffff, 0};
	vmcb->rip = ip;
	vcpu->gpr[GPR_RSP] = sp;
	vcpu->cr0 = CR0_ET;
	vcpu->cr3 = vcpu->cr4 = vcpu->efer = 0;
}

void loader_load(struct vcpu *vcpu, const struct boot_files *files)
{
	enum format format = (enum format)vcpu->vm->options.format;

	if (!bios_write(vcpu->vm))
		loader_refuse(vcpu, "no frames left for the firmware");
	if (format == FORMAT_AUTO && !linux_is_image(&files->kernel)) {
		if (!mbload_is_multiboot(&files->kernel))
			loader_refuse(vcpu, "the kernel is neither a Linux bzImage nor a Multiboot "
					    "image");
		format = FORMAT_MULTIBOOT;
	}
	if (format == FORMAT_MULTIBOOT || format == FORMAT_FLAT)
		bios_start(vcpu->vm);
	switch (format) {
	case FORMAT_MULTIBOOT:
		mbload_load(vcpu, files);
		break;
	case FORMAT_FLAT:
		bios_load_flat(vcpu, files);
		break;
	default:
		linux_load(vcpu, files, format);
		break;
	}
}
