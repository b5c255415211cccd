/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio on PCI (OASIS virtio 1.2 §2.7 split queues, §4.1 PCI): registers and rings, for devices
 * that know only chains. All registers lie in one I/O BAR, so that an access needs no decoding:
 *
 *   0x00 common configuration   0x40 ISR   0x44 notification   0x80 the device's own
 *
 * Everything in a ring is the guest's word, and may change while it is looked at: it is read once,
 * checked, and used from our copy. An address is judged when bytes are copied (memory_copy.c).
 */
#include "virtio.h"
#include "irq.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vm.h"

#define PORTS         256u
#define AT_ISR        0x40u
#define AT_NOTIFY     0x44u
#define AT_DEVICE     0x80u
#define AT_CAPABILITY 0x40 /* in the configuration space */
#define PCI_WINDOW    0x84 /* there: the last capability, which is a way to the BAR */
#define PCI_NO_INTX   4    /* in the command register's second byte */
#define VENDOR        0x1af4u
#define NO_VECTOR     0xffff

#define STATUS_FEATURES_OK 8u
#define STATUS_DRIVER_OK   4u
#define STATUS_NEEDS_RESET 0x40u
#define ISR_QUEUE          1u
#define ISR_CONFIG         2u

#define DESCRIPTOR_NEXT  1u
#define DESCRIPTOR_WRITE 2u
#define NO_INTERRUPT     1u

/* virtio 1.2 §4.1.4.3 */
struct __attribute__((packed)) common {
	uint32_t feature_choice, features, accepted_choice, accepted;
	uint16_t config_vector, queues;
	uint8_t status, generation;
	uint16_t queue_choice, queue_size, queue_vector, queue_enabled, queue_notify;
	uint64_t descriptors, available, returned;
};

/* virtio 1.2 §2.7.5 */
struct descriptor {
	uint64_t gpa;
	uint32_t size;
	uint16_t flags, next;
};

/* ------------------------------------------------------------------ interrupts and ends */

static void interrupt(struct virtio *v, uint8_t why)
{
	v->isr |= why;
	irq_set(v->vm, v->irq, v->isr && !(v->pci.config[PCI_COMMAND + 1] & PCI_NO_INTX));
}

static bool is_running(const struct virtio *v)
{
	return v->status & STATUS_DRIVER_OK && !(v->status & STATUS_NEEDS_RESET);
}

/* What the driver says makes no sense. */
static bool broken(struct virtio *v)
{
	if (!(v->status & STATUS_NEEDS_RESET))
		v->vm->machine->device_faults++;
	v->status |= STATUS_NEEDS_RESET;
	interrupt(v, ISR_CONFIG);
	return false;
}

void virtio_refuse(struct virtio *v)
{
	broken(v);
}

static void reset(struct virtio *v)
{
	v->status = v->isr = 0;
	v->accepted = 0;
	v->feature_choice = v->accepted_choice = 0;
	v->queue_choice = 0;
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		v->queues[i] = (struct virtio_queue){.size = VIRTIO_ENTRIES};
	irq_set(v->vm, v->irq, false);
	if (v->kind->reset)
		v->kind->reset(v);
}

/* ------------------------------------------------------------------ registers */

static struct virtio_queue *chosen(struct virtio *v)
{
	return v->queue_choice < v->kind->queues ? &v->queues[v->queue_choice] : NULL;
}

/* The 32 bits of @features that @choice names. */
static uint32_t half(uint64_t features, uint32_t choice)
{
	return choice < 2 ? (uint32_t)(features >> 32 * choice) : 0;
}

static struct common common_now(struct virtio *v)
{
	const struct virtio_queue *queue = chosen(v);
	struct common c = {
	    .feature_choice = v->feature_choice,
	    .features = half(v->features, v->feature_choice),
	    .accepted_choice = v->accepted_choice,
	    .accepted = half(v->accepted, v->accepted_choice),
	    .config_vector = NO_VECTOR,
	    .queues = v->kind->queues,
	    .status = v->status,
	    .queue_choice = v->queue_choice,
	    .queue_vector = NO_VECTOR,
	};

	if (queue) {
		c.queue_size = queue->size;
		c.queue_enabled = queue->enabled;
		c.descriptors = queue->descriptors;
		c.available = queue->available;
		c.returned = queue->returned;
	}
	return c;
}

static void status_write(struct virtio *v, uint8_t status)
{
	if (!status) {
		reset(v);
		return;
	}
	if (status & STATUS_FEATURES_OK &&
	    (v->accepted & ~v->features || !(v->accepted & VIRTIO_F_VERSION_1)))
		status &= (uint8_t)~STATUS_FEATURES_OK;
	v->status = status | (v->status & STATUS_NEEDS_RESET);
}

static void queue_write(struct virtio_queue *queue, const struct common *c)
{
	if (queue->enabled)
		return;
	if (c->queue_size && c->queue_size <= VIRTIO_ENTRIES &&
	    !(c->queue_size & (c->queue_size - 1)))
		queue->size = c->queue_size;
	queue->descriptors = c->descriptors;
	queue->available = c->available;
	queue->returned = c->returned;
	queue->enabled = c->queue_enabled == 1;
}

/* @c is what the registers hold after a write. */
static void common_write(struct virtio *v, const struct common *c)
{
	bool same_queue = c->queue_choice == v->queue_choice;
	bool same_half = c->accepted_choice == v->accepted_choice;

	v->feature_choice = c->feature_choice;
	v->accepted_choice = c->accepted_choice;
	v->queue_choice = c->queue_choice;
	if (same_half && c->accepted_choice < 2 && !(v->status & STATUS_FEATURES_OK)) {
		unsigned shift = 32 * c->accepted_choice;

		v->accepted &= ~(0xffffffffull << shift);
		v->accepted |= (uint64_t)c->accepted << shift;
	}
	if (same_queue && chosen(v))
		queue_write(chosen(v), c);
	if (c->status != v->status)
		status_write(v, c->status);
}

/* How many of @size bytes at @offset lie in an area of @length bytes there. */
static unsigned clip(uint32_t offset, unsigned size, size_t length)
{
	if (offset >= length)
		return 0;
	return size < length - offset ? size : (unsigned)(length - offset);
}

static uint32_t registers_read(void *device, uint32_t offset, unsigned size)
{
	struct virtio *v = device;
	uint32_t value = 0;

	if (offset < sizeof(struct common)) {
		struct common c = common_now(v);

		memcpy(&value, (const char *)&c + offset, clip(offset, size, sizeof(c)));
	} else if (offset == AT_ISR) {
		value = v->isr;
		v->isr = 0;
		irq_set(v->vm, v->irq, false);
	} else if (offset >= AT_DEVICE) {
		offset -= AT_DEVICE;
		memcpy(&value, v->config + (offset < VIRTIO_CONFIG ? offset : 0),
		       clip(offset, size, VIRTIO_CONFIG));
	}
	return value;
}

static void registers_write(void *device, uint32_t offset, unsigned size, uint32_t value)
{
	struct virtio *v = device;

	if (offset < sizeof(struct common)) {
		struct common c = common_now(v);

		memcpy((char *)&c + offset, &value, clip(offset, size, sizeof(c)));
		common_write(v, &c);
	} else if (offset == AT_NOTIFY && (value & 0xffff) < v->kind->queues && is_running(v)) {
		v->kind->notified(v, value & 0xffff);
	}
}

/* ------------------------------------------------------------------ configuration space */

struct __attribute__((packed)) capability {
	uint8_t id, next, length, type, bar, padding[3];
	uint32_t offset, size;
	uint32_t more; /* a notification's multiplier; the window's data */
};

/* The window onto the BAR (virtio 1.2 §4.1.4.9): @at touches its data. */
static bool window(const struct virtio *v, uint8_t at, struct capability *c)
{
	memcpy(c, &v->pci.config[PCI_WINDOW], sizeof(*c));
	return at >= PCI_WINDOW + 16 && at < PCI_WINDOW + 20 &&
	       (c->size == 1 || c->size == 2 || c->size == 4) && c->offset <= PORTS - c->size;
}

static void window_read(void *device, uint8_t at, unsigned size)
{
	struct virtio *v = device;
	struct capability c;
	uint32_t value;

	(void)size;
	if (!window(v, at, &c))
		return;
	value = registers_read(v, c.offset, c.size);
	memcpy(&v->pci.config[PCI_WINDOW + 16], &value, sizeof(value));
}

static void window_written(void *device, uint8_t at, unsigned size)
{
	struct virtio *v = device;
	struct capability c;

	(void)size;
	if (at == PCI_COMMAND)
		interrupt(v, 0);
	if (window(v, at, &c))
		registers_write(v, c.offset, c.size, c.more);
}

static void capabilities(struct pci_function *function)
{
	static const struct capability list[] = {
	    {.type = 1, .length = 16, .offset = 0, .size = sizeof(struct common)},
	    {.type = 3, .length = 16, .offset = AT_ISR, .size = 1},
	    {.type = 4, .length = 16, .offset = AT_DEVICE, .size = VIRTIO_CONFIG},
	    {.type = 2, .length = 20, .offset = AT_NOTIFY, .size = 2},
	    {.type = 5, .length = 20},
	};
	unsigned at = AT_CAPABILITY, count = sizeof(list) / sizeof(list[0]);

	function->config[PCI_STATUS] |= 0x10; /* a list of capabilities */
	function->config[PCI_CAPABILITIES] = AT_CAPABILITY;
	for (unsigned i = 0; i < count; i++) {
		struct capability c = list[i];

		c.id = 9; /* a vendor's */
		c.next = i + 1 < count ? (uint8_t)(at + c.length) : 0;
		memcpy(&function->config[at], &c, c.length);
		at += c.length;
	}
	memset(&function->writable[PCI_WINDOW + 4], 0xff, 1);
	memset(&function->writable[PCI_WINDOW + 8], 0xff, 12);
}

struct virtio *virtio_create(struct vm *vm, const struct virtio_kind *kind, void *device)
{
	struct virtio *v = pool_alloc(vm->frames, sizeof(*v));
	unsigned number = 1;

	if (!v)
		return NULL;
	while (number < PCI_FUNCTIONS - 1 && vm->pci.functions[number])
		number++;
	v->kind = kind;
	v->vm = vm;
	v->device = device;
	v->irq = 9 + number;
	v->features = VIRTIO_F_VERSION_1;
	v->pci.ports = PORTS;
	v->pci.device = v;
	v->pci.read = registers_read;
	v->pci.write = registers_write;
	v->pci.config_read = window_read;
	v->pci.config_written = window_written;
	pci_function_init(&v->pci, VENDOR | (0x1040u + kind->type) << 16, kind->class << 8 | 1,
			  PCI_PORTS_FIRST + PORTS * number, v->irq);
	memcpy(&v->pci.config[PCI_SUBSYSTEM], &v->pci.config[0], 4);
	capabilities(&v->pci);
	vm->pci.functions[number] = &v->pci;
	pci_function_init(&vm->pci.bridge, 0x0001u << 16 | VENDOR, 0x06000000, 0, 0);
	vm->pci.functions[0] = &vm->pci.bridge;
	reset(v);
	return v;
}

/* ------------------------------------------------------------------ rings */

/* One 16-bit field of a ring. */
static bool field_read(struct virtio *v, uint64_t gpa, uint16_t *value)
{
	return memory_guest_read(v->vm, gpa, value, sizeof(*value)) || broken(v);
}

/* Append descriptor @d to @chain. False: it does not belong there. */
static bool append(struct virtio_chain *chain, const struct descriptor *d)
{
	unsigned count = chain->out + chain->in;
	bool in = d->flags & DESCRIPTOR_WRITE;
	uint32_t *bytes = in ? &chain->in_bytes : &chain->out_bytes;

	if (d->flags & ~(DESCRIPTOR_NEXT | DESCRIPTOR_WRITE) || count == VIRTIO_SEGMENTS ||
	    (!in && chain->in) || d->size > UINT32_MAX - *bytes)
		return false;
	*bytes += d->size;
	chain->in += in;
	chain->out += !in;
	chain->segments[count] = (struct virtio_segment){d->gpa, d->size};
	return true;
}

bool virtio_take(struct virtio *v, unsigned number, struct virtio_chain *chain)
{
	struct virtio_queue *queue = &v->queues[number];
	uint16_t available, next;
	struct descriptor d;

	if (!is_running(v) || !queue->enabled || !field_read(v, queue->available + 2, &available) ||
	    available == queue->seen)
		return false;
	if ((uint16_t)(available - queue->seen) > queue->size)
		return broken(v);
	if (!field_read(v, queue->available + 4 + 2 * (queue->seen % queue->size), &next))
		return false;
	*chain = (struct virtio_chain){.head = next};
	do {
		if (next >= queue->size ||
		    !memory_guest_read(v->vm, queue->descriptors + 16 * next, &d, sizeof(d)) ||
		    !append(chain, &d))
			return broken(v);
		next = d.next;
	} while (d.flags & DESCRIPTOR_NEXT);
	queue->seen++;
	return true;
}

/* Copy between @buffer and some of a chain's segments. */
static bool copy(struct virtio *v, const struct virtio_segment *segments, unsigned count,
		 uint32_t at, char *buffer, uint32_t size, bool write)
{
	for (unsigned i = 0; i < count && size; i++) {
		uint32_t here = segments[i].size, piece;
		uint64_t gpa = segments[i].gpa + at;

		if (at >= here) {
			at -= here;
			continue;
		}
		piece = here - at < size ? here - at : size;
		at = 0;
		if (write ? !memory_guest_write(v->vm, gpa, buffer, piece)
			  : !memory_guest_read(v->vm, gpa, buffer, piece))
			return broken(v);
		buffer += piece;
		size -= piece;
	}
	return !size;
}

bool virtio_read(struct virtio *v, const struct virtio_chain *chain, uint32_t at, void *to,
		 uint32_t size)
{
	return copy(v, chain->segments, chain->out, at, to, size, false);
}

bool virtio_write(struct virtio *v, const struct virtio_chain *chain, uint32_t at, const void *from,
		  uint32_t size)
{
	return copy(v, chain->segments + chain->out, chain->in, at, (char *)(uintptr_t)from, size,
		    true);
}

void virtio_return(struct virtio *v, unsigned number, const struct virtio_chain *chain,
		   uint32_t written)
{
	struct virtio_queue *queue = &v->queues[number];
	uint32_t element[2] = {chain->head, written};
	uint64_t at = queue->returned + 4 + 8 * (queue->used % queue->size);
	uint16_t flags;

	if (!is_running(v) || !queue->enabled)
		return;
	queue->used++;
	if (!memory_guest_write(v->vm, at, element, sizeof(element)) ||
	    !memory_guest_write(v->vm, queue->returned + 2, &queue->used, sizeof(queue->used))) {
		broken(v);
		return;
	}
	if (field_read(v, queue->available, &flags) && !(flags & NO_INTERRUPT))
		interrupt(v, ISR_QUEUE);
}
