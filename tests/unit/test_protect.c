/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/protect.c: what is taken from one page with hundreds of mappings while its guest
 * keeps coming for them. The lock is given up within the chain (tuning/small: after four sptes),
 * and nothing may come back before the operation's flush.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "fixture.h"

#define ALIASES 300u
#define ROUNDS  200u
#define GUESTS  2u
#define WRITE   (UMBRA_PF_U | UMBRA_PF_W)

static _Atomic bool done;
static _Atomic uint64_t resumed, retried;
static _Atomic unsigned wrong; /* sptes with .bits at the moment of the flush */
static uint64_t bits;

static int aliases_setup(void **state)
{
	int error = fixture_setup(state);

	for (unsigned i = 0; i < 512; i++)
		*guest_entry(4, i) = (uint64_t)FIRST << 12 | RIGHTS | PTE_A | PTE_D;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(fault(DATA + i * 4096ull, WRITE), UMBRA_RESUME);
	return error;
}

static void look(void)
{
	if (fix.flushed.vcpus != fix.mmu->vcpus) /* a guest's own; else it has zapped the table */
		return;
	for (unsigned i = 0; i < 512; i++)
		wrong += (spte_at(DATA + i * 4096ull) & bits) != 0;
}

/* Writes through all aliases, and takes some of them away. */
static void *guest_main(void *arg)
{
	struct umbra_vcpu *vcpu = arg;

	for (unsigned i = 0; !atomic_load(&done); i++) {
		uint64_t gva = DATA + i % ALIASES * 4096ull;
		struct umbra_answer answer = umbra_fault(vcpu, gva, WRITE);

		if (answer.verdict != UMBRA_RESUME && answer.verdict != UMBRA_RETRY)
			return "a good access was refused";
		*(answer.verdict == UMBRA_RESUME ? &resumed : &retried) += 1;
		if (i % 7 == 0) {
			umbra_guest_write(fix.mmu, 0x4000 + i % ALIASES * 8, 8);
			umbra_invlpg(vcpu, gva);
		}
		if (i % 997 == 0)
			umbra_unprotect(fix.mmu, (umbra_gfn){4});
	}
	return NULL;
}

/* Do it, again and again, while two vcpus run. */
static void under_guests(void (*operation)(void))
{
	struct umbra_vcpu *vcpu[GUESTS];
	pthread_t thread[GUESTS];

	atomic_store(&done, false);
	atomic_store(&wrong, 0);
	for (unsigned i = 0; i < GUESTS; i++) {
		assert_int_equal(umbra_vcpu_create(fix.mmu, i + 1, &vcpu[i]), 0);
		assert_int_equal(umbra_vcpu_set_paging(vcpu[i], &long_mode_on), 0);
		assert_int_equal(pthread_create(&thread[i], NULL, guest_main, vcpu[i]), 0);
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t before = resumed;

		for (unsigned tries = 0; tries < 100000 && resumed == before; tries++)
			port_pause();
		operation();
	}
	atomic_store(&done, true);
	for (unsigned i = 0; i < GUESTS; i++) {
		void *what;

		pthread_join(thread[i], &what);
		assert_null(what);
	}
	fix.on_flush = NULL;
	assert_int_equal(atomic_load(&wrong), 0);
	assert_sound();
	assert_null(fix.mmu->held);
}

static void write_protect(void)
{
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){FIRST}, 1, NULL), 0);
}

static void test_write_protect(void **state)
{
	uint64_t sptes;

	(void)state;
	bits = PTE_W;
	fix.flushes = 0;
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){0}, 128, &sptes), 0);
	assert_int_equal(sptes, ALIASES);
	assert_int_equal(fix.flushes, 1);
	fix.on_flush = look;
	under_guests(write_protect);
}

/* Asking takes no mapping away, and every A bit; it needs no flush. */
static void age(void)
{
	uint64_t young;

	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){FIRST}, 1, 0, &young), 0);
}

static void test_age(void **state)
{
	uint64_t young;

	(void)state;
	age();
	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){FIRST}, 1, UMBRA_AGE_TEST, &young), 0);
	assert_int_equal(young, 0);
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(spte_at(DATA + i * 4096ull) & (PTE_P | PTE_A), PTE_P);
	under_guests(age);
}

static void collect(void)
{
	uint64_t dirty;

	assert_int_equal(umbra_log_collect_word(fix.mmu, (umbra_gfn){0}, 1ull << FIRST, &dirty), 0);
}

static void test_collect(void **state)
{
	(void)state;
	assert_int_equal(umbra_log_start(fix.mmu, 0, 0), 0);
	bits = PTE_W;
	fix.on_flush = look;
	under_guests(collect);
}

static void test_collect_d(void **state)
{
	uint64_t dirty;

	(void)state;
	assert_int_equal(umbra_log_start(fix.mmu, 0, UMBRA_LOG_DIRTY_BITS), 0);
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(spte_at(DATA + i * 4096ull) & (PTE_W | PTE_D), PTE_W);
	assert_int_equal(umbra_log_collect(fix.mmu, (umbra_gfn){0}, 64, &dirty), 0);
	assert_int_equal(dirty, 0);
	bits = PTE_D;
	fix.on_flush = look;
	under_guests(collect);
}

#define ALIASES_TEST(test) cmocka_unit_test_setup_teardown(test, aliases_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ALIASES_TEST(test_write_protect),
	    ALIASES_TEST(test_age),
	    ALIASES_TEST(test_collect),
	    ALIASES_TEST(test_collect_d),
	};

	return cmocka_run_group_tests_name("protect", tests, NULL, NULL);
}
