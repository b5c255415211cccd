/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stand-in for the hypervisor, for tests of the command: a Multiboot image that fills the machine
 * page in and ends as it is told, without running a guest. What it shall do comes as the
 * storm=N that `umbra run --storm N` hands down:
 *
 *     1..11  end with that enum umbra_end     20  run for ever, obey commands
 *     30     workload ok, power-off           21  run for ever, deaf
 *     31     workload failed, power-off       22  reset the machine without a word
 *     32     violations counted, power-off    23  say init's marker, then like 30
 *                                             24  run for ever, answer wrongly (answer_wrongly())
 *     25     run for ever, and change all the time what was answered (change())
 */
#include <stdint.h>
#include <umbra/machine.h>

#define COM1        0x3f8
#define EXIT_PORT   0xf4
#define MULTIBOOT   0x1badb002u
#define HAS_CMDLINE 4u

void fake_main(const uint32_t *boot);

__attribute__((section(".multiboot"), used)) static const uint32_t header[3] = {MULTIBOOT, 0,
										-MULTIBOOT};
__attribute__((section(".machine"), used)) static struct umbra_machine machine = {.version = 0};

__asm__(".section .text.start, \"ax\"\n"
	".globl _start\n"
	"_start: mov $stack_top, %esp\n"
	"	push %ebx\n"
	"	call fake_main\n"
	".bss\n"
	".align 16\n"
	".skip 8192\n"
	"stack_top:\n"
	".text\n");

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static void say(const char *text)
{
	for (; *text; text++)
		out8(COM1, (uint8_t)*text);
}

/* The number after the last "storm=". */
static uint32_t read_task(const char *line)
{
	static const char key[] = "storm=";
	uint32_t task = 0;

	for (; *line; line++) {
		unsigned i = 0;
		while (key[i] && line[i] == key[i])
			i++;
		if (key[i])
			continue;
		task = 0;
		for (line += i; *line >= '0' && *line <= '9'; line++)
			task = task * 10 + (uint32_t)(*line - '0');
	}
	return task;
}

static _Noreturn void end(enum umbra_end how)
{
	machine.end = how;
	machine.message[0] = 't';
	machine.phase = UMBRA_PHASE_ENDED;
	out32(EXIT_PORT, how);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/*
 * Mappings without end; a log that cannot be collected (.zaps: logs that are on); a ring that says
 * it holds more than it can; an end whose sentence has none.
 */
static void answer_wrongly(uint32_t command)
{
	static uint8_t __attribute__((aligned(4096))) room[UMBRA_ANSWER_BYTES];

	machine.answer = (uintptr_t)room;
	machine.answers = UMBRA_ANSWER_BYTES / sizeof(struct umbra_mapping);
	machine.result = command == UMBRA_COMMAND_LOG_COLLECT ? UMBRA_EAGAIN : 0;
	if (command == UMBRA_COMMAND_LOG_START)
		machine.zaps++;
	if (command == UMBRA_COMMAND_LOG_STOP)
		machine.zaps--;
	if (command == UMBRA_COMMAND_RECORD) {
		machine.ring.capacity = 16;
		machine.ring.written = 1000;
		machine.ring.address = (uintptr_t)room;
	}
	if (command == UMBRA_COMMAND_DROP) { /* stays, for others to look at it */
		for (unsigned i = 0; i < sizeof(machine.message); i++)
			machine.message[i] = 't';
		machine.guests = 0x74747474;
		machine.end = UMBRA_END_POWEROFF;
		machine.phase = UMBRA_PHASE_ENDED;
	}
}

/*
 * What makes sense, then what does not, all the time: whoever judges what it reads and reads again
 * to use it will be wrong sooner or later.
 */
static void change(uint32_t turn)
{
	static uint8_t __attribute__((aligned(4096))) room[UMBRA_ANSWER_BYTES];
	static const uint32_t counts[] = {1,
					  3,
					  5,
					  16,
					  UMBRA_ANSWER_BYTES / sizeof(struct umbra_mapping) - 1,
					  UINT32_MAX,
					  1u << 31,
					  UMBRA_ANSWER_BYTES};
	volatile struct umbra_view *view = (volatile struct umbra_view *)room;
	volatile struct umbra_machine *page = &machine;
	uint32_t wrong = turn % 2 ? UINT32_MAX : 0;

	page->answer = turn % 64 == 63 ? UINT64_MAX : (uintptr_t)room;
	page->answers = counts[turn / 2 % (sizeof(counts) / sizeof(counts[0]))];
	page->result = turn % 16 == 15 ? -(int32_t)(turn / 16 % 8) : 0;
	for (unsigned i = 0; i < 200; i++) { /* fast: a reader is in the midst of it */
		uint8_t level = (uint8_t)(i % 2 ? 0xff : 4);

		view->guest_top = level;
		view->guest_end = level;
		view->shadow_top = level;
		view->shadow_end = level;
	}
	view->mode = (uint8_t)(wrong | 4);
	page->ring.written = turn % 2 ? turn : UINT64_MAX - turn;
	page->ring.read = turn % 2 ? UINT64_MAX : turn;
	page->ring.capacity = turn % 2 ? UINT64_MAX / sizeof(struct umbra_record) + 2 : 16;
	page->ring.address = turn % 4 == 3 ? UINT64_MAX - 4095 : (uintptr_t)room;
	page->tsc_hz = turn % 2 ? 0 : 1000000000;
	page->peak_histogram[turn % UMBRA_HISTOGRAM] = turn % 3 ? 0 : wrong;
	page->config.shadow_quota = wrong;
	page->message[turn % sizeof(page->message)] = turn % 2 ? 't' : 0;
}

static _Noreturn void run_for_ever(int obey, int wrongly, int changing)
{
	volatile uint32_t *command = &machine.command;

	for (uint32_t turn = 0;; turn++) {
		if (changing)
			change(turn);
		if (!obey || *command == UMBRA_COMMAND_NONE)
			continue;
		if (*command == UMBRA_COMMAND_STOP)
			end(UMBRA_END_COMMAND);
		if (wrongly)
			answer_wrongly(*command);
		__asm__ volatile("" ::: "memory"); /* all of it is there before .command says so */
		*(volatile uint64_t *)&machine.mmu.faults += 1;
		*command = UMBRA_COMMAND_NONE;
	}
}

void fake_main(const uint32_t *boot)
{
	uint32_t task = boot[0] & HAS_CMDLINE ? read_task((const char *)boot[4]) : 0;

	machine.version = UMBRA_MACHINE_VERSION;
	machine.size = sizeof(machine);
	machine.phase = UMBRA_PHASE_BOOT;
	machine.tsc_hz = 1000000000;
	machine.mmu.longest_chain = 257;
	machine.peak_histogram[8] = 3;
	*(volatile uint64_t *)&machine.magic = UMBRA_MACHINE_MAGIC;
	say("fake: up\r\n");
	if (task >= 1 && task <= UMBRA_END_COMMAND)
		end((enum umbra_end)task);
	if (task == 20 || task == 21 || task == 24 || task == 25)
		run_for_ever(task != 21, task == 24, task == 25);
	if (task == 22)
		out8(0x64, 0xfe);
	if (task == 23)
		say("umbra-init: ready\r\n");
	if (task == 32)
		machine.audit_violations = 2;
	machine.workload = task == 31 ? 2 : 1;
	end(UMBRA_END_POWEROFF);
}
