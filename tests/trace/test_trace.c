/* SPDX-License-Identifier: BSD-2-Clause */
/* Trace files: what was written is read, whatever was done to the file is told. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "trace.h"

#define RECORDS (2 * TRACE_CHUNK + 1234)

static char path[64];

static struct umbra_record record_of(uint64_t i)
{
	return (struct umbra_record){.kind = (uint8_t)(i % 23 + 1),
				     .time = (uint32_t)i,
				     .a = i * 0x9e3779b97f4a7c15ull,
				     .b = i << 12,
				     .c = i / 7};
}

static struct trace_writer *create(void)
{
	struct trace_header header = {.memory = 1 << 20, .guest = "somebody"};
	struct trace_error error;

	header.config = (struct umbra_config){.shadow_quota = 77, .maxphyaddr = 40};
	return trace_create(path, &header, &error);
}

static void make(uint64_t records, bool close_it)
{
	struct trace_writer *writer = create();
	struct trace_error error;

	assert_non_null(writer);
	for (uint64_t i = 0; i < records; i++) {
		struct umbra_record record = record_of(i);

		assert_true(trace_write(writer, &record, 1, &error));
	}
	if (close_it) {
		assert_true(trace_close(writer, &error));
	} else {
		assert_true(trace_flush(writer, &error));
		trace_abandon(writer);
	}
}

/* Everything up to the end, which is *@status; each record is the right one. */
static uint64_t read_all(enum trace_status *status)
{
	struct trace_header header;
	struct umbra_record record, wanted;
	struct trace_error error;
	struct trace_reader *reader = trace_open(path, &header, &error);
	uint64_t i = 0;

	if (!reader) {
		assert_non_null(strstr(error.text, path));
		*status = error.status;
		return 0;
	}
	assert_int_equal(header.config.shadow_quota, 77);
	while (!(*status = trace_next(reader, &record, &error))) {
		wanted = record_of(i++);
		assert_memory_equal(&record, &wanted, sizeof(record));
	}
	if (*status != TRACE_END)
		assert_non_null(strstr(error.text, "offset"));
	trace_reader_close(reader);
	return i;
}

static void test_round(void **state)
{
	static const uint64_t counts[] = {0,      1, TRACE_CHUNK - 1, TRACE_CHUNK, TRACE_CHUNK + 1,
					  RECORDS};
	enum trace_status status;

	(void)state;
	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		make(counts[i], true);
		assert_int_equal(read_all(&status), counts[i]);
		assert_int_equal(status, TRACE_END);
	}
}

/* Its writer was killed: all that was flushed is there. */
static void test_unended(void **state)
{
	enum trace_status status;

	(void)state;
	make(RECORDS, false);
	assert_int_equal(read_all(&status), RECORDS);
	assert_int_equal(status, TRACE_TRUNCATED);
}

static void test_truncated(void **state)
{
	enum trace_status status;
	struct stat stat_;

	(void)state;
	make(5000, true);
	assert_int_equal(stat(path, &stat_), 0);
	for (off_t size = stat_.st_size - 1; size >= 0;
	     size -= size > 300 && size < stat_.st_size - 300 ? 97 : 1) {
		assert_int_equal(truncate(path, size), 0);
		read_all(&status);
		if (size < stat_.st_size - 80)
			assert_int_not_equal(status, TRACE_END);
	}
}

static void test_flipped(void **state)
{
	enum trace_status status;
	struct stat stat_;
	uint64_t good = 0, records;
	int file;

	(void)state;
	make(3000, true);
	assert_int_equal(stat(path, &stat_), 0);
	file = open(path, O_RDWR);
	for (off_t at = 0; at < stat_.st_size; at += at < 300 ? 1 : 61) {
		char byte, flipped;

		assert_int_equal(pread(file, &byte, 1, at), 1);
		flipped = (char)(byte ^ 1 << at % 8);
		assert_int_equal(pwrite(file, &flipped, 1, at), 1);
		records = read_all(&status);
		/* Nobody needs the index to read on; zstd has a bit that means nothing. */
		if (status == TRACE_END)
			assert_int_equal(records, 3000);
		good += status == TRACE_END;
		assert_int_equal(pwrite(file, &byte, 1, at), 1);
	}
	close(file);
	assert_int_equal(read_all(&status), 3000);
	assert_in_range(good, 0, 10);
}

/* What a reader says of a trace with @size bytes of its header being @value. */
static enum trace_status read_patched(size_t at, uint64_t value, size_t size)
{
	struct trace_writer *writer;
	enum trace_status status;
	struct trace_error error;
	int file;

	unlink(path);
	writer = create();
	assert_true(trace_close(writer, &error));
	file = open(path, O_WRONLY);
	assert_int_equal(pwrite(file, &value, size, (off_t)at), (ssize_t)size);
	close(file);
	read_all(&status);
	return status;
}

static void test_not(void **state)
{
	enum trace_status status;
	FILE *file;

	(void)state;
	file = fopen(path, "w");
	fputs("once upon a time there was a file that was no trace at all", file);
	fclose(file);
	read_all(&status);
	assert_int_equal(status, TRACE_NOT);
	assert_null(create()); /* and it stays */
	file = fopen(path, "w");
	fclose(file);
	read_all(&status);
	assert_int_equal(status, TRACE_EMPTY);
	assert_int_equal(read_patched(0, __builtin_bswap64(TRACE_MAGIC), 8), TRACE_ENDIAN);
	assert_int_equal(read_patched(offsetof(struct trace_header, version), TRACE_VERSION + 1, 4),
			 TRACE_OTHER);
	assert_int_equal(read_patched(offsetof(struct trace_header, size), 8, 4), TRACE_DAMAGED);
	unlink(path);
	read_all(&status);
	assert_int_equal(status, TRACE_SYSTEM);
}

static void test_seek(void **state)
{
	static const uint64_t to[] = {
	    0, 5, RECORDS - 1, TRACE_CHUNK, TRACE_CHUNK - 1, 1, 2 * TRACE_CHUNK};
	struct trace_header header;
	struct umbra_record record, wanted;
	struct trace_error error;
	struct trace_reader *reader;

	(void)state;
	make(RECORDS, true);
	reader = trace_open(path, &header, &error);
	assert_non_null(reader);
	for (unsigned i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
		assert_int_equal(trace_seek(reader, to[i], &error), TRACE_OK);
		assert_int_equal(trace_next(reader, &record, &error), TRACE_OK);
		wanted = record_of(to[i]);
		assert_memory_equal(&record, &wanted, sizeof(record));
	}
	assert_int_equal(trace_seek(reader, RECORDS, &error), TRACE_END);
	trace_reader_close(reader);
}

/* A disk that is full: what was there before can be read. */
static void test_full(void **state)
{
	struct trace_header header = {.guest = "x"};
	struct trace_error error = {0};

	(void)state;
	assert_null(trace_create("/dev/full", &header, &error));
	assert_non_null(strstr(error.text, "/dev/full"));
	assert_null(trace_create("/nowhere/at/all", &header, &error));
	assert_non_null(strstr(error.text, "/nowhere/at/all"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round),   cmocka_unit_test(test_unended),
	    cmocka_unit_test(test_flipped), cmocka_unit_test(test_truncated),
	    cmocka_unit_test(test_not),     cmocka_unit_test(test_seek),
	    cmocka_unit_test(test_full),
	};
	int failed;

	snprintf(path, sizeof(path), "/tmp/test-trace-%d.utr", getpid());
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
