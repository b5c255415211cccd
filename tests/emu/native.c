/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs an instruction on the processor, with any registers, the stack pointer's among them. The
 * registers wait at an address of 32 bits, so that loading the last of them needs none; behind the
 * instruction stands a jump to a stub that saves them again. Instructions of 32 bits run in Linux's
 * own segments for programs of 32 bits, by a far jump there and one back.
 *
 * An exception becomes a signal; its handler takes the registers from the context and returns to
 * the caller.
 */
#define _GNU_SOURCE
#include "native.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define AREA     0x10001000ul /* struct area */
#define STUB_TOP 0x10000f00ul
#define STUB_32  0x10000f40ul
#define CODE_32  0x23 /* Linux's selectors */
#define DATA     0x2b

struct area {
	uint64_t gpr[16]; /* 0x00 */
	uint64_t flags;   /* 0x80 */
	uint64_t target;  /* 0x88 */
	uint64_t stack;   /* 0x90 */
	uint64_t back;    /* 0x98 */
	uint64_t far;     /* 0xa0: a far pointer, offset and selector */
};

#define area (*(volatile struct area *)AREA)

const uint64_t native_stub = STUB_TOP, native_stub32 = STUB_32;

static sigjmp_buf away;
static struct registers *current;

/* Load all registers from the area and jump to area.target. Its continuation is native_leave. */
#define LOAD                                                                  \
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n" \
	"	mov %rsp, 0x10001090\n"                                             \
	"	push 0x10001080\n"                                                  \
	"	popfq\n"                                                            \
	"	mov 0x10001000, %rax; mov 0x10001008, %rcx\n"                       \
	"	mov 0x10001010, %rdx; mov 0x10001018, %rbx\n"                       \
	"	mov 0x10001020, %rsp; mov 0x10001028, %rbp\n"                       \
	"	mov 0x10001030, %rsi; mov 0x10001038, %rdi\n"                       \
	"	mov 0x10001040, %r8;  mov 0x10001048, %r9\n"                        \
	"	mov 0x10001050, %r10; mov 0x10001058, %r11\n"                       \
	"	mov 0x10001060, %r12; mov 0x10001068, %r13\n"                       \
	"	mov 0x10001070, %r14; mov 0x10001078, %r15\n"

__asm__(".text\n"
	"native_enter32:\n" LOAD "	ljmp *0x100010a0\n"
	"native_enter:\n" LOAD "	jmp *0x10001088\n"
	"native_leave:\n"

	"	mov %rax, 0x10001000; mov %rcx, 0x10001008\n"
	"	mov %rdx, 0x10001010; mov %rbx, 0x10001018\n"
	"	mov %rsp, 0x10001020; mov %rbp, 0x10001028\n"
	"	mov %rsi, 0x10001030; mov %rdi, 0x10001038\n"
	"	mov %r8,  0x10001040; mov %r9,  0x10001048\n"
	"	mov %r10, 0x10001050; mov %r11, 0x10001058\n"
	"	mov %r12, 0x10001060; mov %r13, 0x10001068\n"
	"	mov %r14, 0x10001070; mov %r15, 0x10001078\n"
	"	mov 0x10001090, %rsp\n"
	"	pushfq\n"
	"	pop 0x10001080\n"
	"	cld\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n");
void native_enter(void);
void native_enter32(void);
void native_leave(void);

static void mm_load(const struct registers *r)
{
	const uint8_t(*x)[16] = r->xmm + 16;

	__asm__ volatile("movq (%0), %%mm0; movq 16(%0), %%mm1; movq 32(%0), %%mm2;"
			 "movq 48(%0), %%mm3; movq 64(%0), %%mm4; movq 80(%0), %%mm5;"
			 "movq 96(%0), %%mm6; movq 112(%0), %%mm7"
			 :
			 : "r"(x)
			 : "memory");
}

static void mm_save(struct registers *r)
{
	uint8_t(*x)[16] = r->xmm + 16;

	__asm__ volatile("movq %%mm0, (%0); movq %%mm1, 16(%0); movq %%mm2, 32(%0);"
			 "movq %%mm3, 48(%0); movq %%mm4, 64(%0); movq %%mm5, 80(%0);"
			 "movq %%mm6, 96(%0); movq %%mm7, 112(%0); emms"
			 :
			 : "r"(x)
			 : "memory");
}

static void xmm_load(const struct registers *r)
{
	const uint8_t(*x)[16] = r->xmm;

	__asm__ volatile("movdqa (%0), %%xmm0; movdqa 16(%0), %%xmm1; movdqa 32(%0), %%xmm2;"
			 "movdqa 48(%0), %%xmm3; movdqa 64(%0), %%xmm4; movdqa 80(%0), %%xmm5;"
			 "movdqa 96(%0), %%xmm6; movdqa 112(%0), %%xmm7"
			 :
			 : "r"(x)
			 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			   "xmm7");
}

static void xmm_save(struct registers *r)
{
	uint8_t(*x)[16] = r->xmm;

	__asm__ volatile("movdqa %%xmm0, (%0); movdqa %%xmm1, 16(%0); movdqa %%xmm2, 32(%0);"
			 "movdqa %%xmm3, 48(%0); movdqa %%xmm4, 64(%0); movdqa %%xmm5, 80(%0);"
			 "movdqa %%xmm6, 96(%0); movdqa %%xmm7, 112(%0)"
			 :
			 : "r"(x)
			 : "memory");
}

static void fault(int number, siginfo_t *info, void *context)
{
	static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				      REG_R12, REG_R13, REG_R14, REG_R15};
	const ucontext_t *u = context;

	(void)info;
	if (!current) {
		signal(number, SIG_DFL);
		return;
	}
	for (int i = 0; i < 16; i++)
		current->gpr[i] = (uint64_t)u->uc_mcontext.gregs[order[i]];
	current->rflags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
	current->rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP];
	for (int i = 0; i < 8; i++)
		memcpy(current->xmm[i], &u->uc_mcontext.fpregs->_xmm[i], 16);
	siglongjmp(away, number == SIGFPE ? 1 : number == SIGILL ? 7 : 14);
}

void native_init(void)
{
	struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	static const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
	stack_t stack = {.ss_size = 1 << 16};
	uint8_t *code = mmap((void *)NATIVE_CODE, 0x4000, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	stack.ss_sp = malloc(stack.ss_size);
	if (code != (uint8_t *)NATIVE_CODE || !stack.ss_sp || sigaltstack(&stack, NULL)) {
		perror("test_execute: no memory at 0x10000000");
		exit(2);
	}
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	area.back = (uint64_t)native_leave;
	memcpy((void *)STUB_TOP, "\xff\x24\x25\x98\x10\x00\x10", 7); /* jmp *area.back */
	memcpy((void *)STUB_32, "\xea\x00\x0f\x00\x10\x33\x00", 7);  /* ljmp $CODE_64, $STUB_TOP */
	/* What 64-bit code has no use for, and a program of 32 bits has flat. */
	__asm__ volatile("mov %0, %%ds\n mov %0, %%es" : : "r"(DATA));
}

/* What LAR has to find (APM volume 3, "LAR"): D, present, DPL 3, code; and not L. */
bool native_has_32(void)
{
	uint32_t rights = 0;
	uint8_t found;

	__asm__("lar %2, %0\n setz %1" : "+r"(rights), "=q"(found) : "r"(CODE_32) : "cc");
	return found && (rights & 0x60f800) == 0x40f800;
}

int native_run(struct registers *registers, unsigned length, unsigned bits)
{
	uint8_t *behind = (uint8_t *)registers->rip + length;
	uint64_t stub = bits == 64 ? STUB_TOP : STUB_32;
	int32_t distance = (int32_t)((int64_t)stub - (int64_t)(uintptr_t)(behind + 5));
	int number;

	behind[0] = 0xe9;
	memcpy(behind + 1, &distance, 4);
	for (int i = 0; i < 16; i++)
		area.gpr[i] = registers->gpr[i];
	area.flags = (registers->rflags & FLAGS) | 0x202;
	area.target = registers->rip;
	area.far = registers->rip | (uint64_t)CODE_32 << 32;
	current = registers;
	number = sigsetjmp(away, 0);
	if (number == 0) {
		xmm_load(registers);
		mm_load(registers);
		if (bits == 64)
			native_enter();
		else
			native_enter32();
		xmm_save(registers);
		mm_save(registers);
		for (int i = 0; i < 16; i++)
			registers->gpr[i] = area.gpr[i];
		registers->rflags = area.flags;
	}
	current = NULL;
	if (number) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		__asm__ volatile("cld; emms");
	}
	return number - 1;
}
