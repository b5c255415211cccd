/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exit statuses of the `umbra` command, one for each thing that can go wrong (umbra(1) lists
 * them), and the one way to complain: a sentence that names the thing, then the way out.
 */
#ifndef CLI_STATUS_H
#define CLI_STATUS_H

enum status {
	STATUS_OK = 0,
	STATUS_ERROR = 1, /* the host refused something ordinary: a pipe, a file to write */
	STATUS_USAGE = 2,
	STATUS_KERNEL_MISSING = 3,
	STATUS_KERNEL_FORMAT = 4,
	STATUS_KERNEL_TRUNCATED = 5,
	STATUS_INITRD_MISSING = 6,
	STATUS_INITRD_SIZE = 7,
	STATUS_MEMORY = 8,
	STATUS_QEMU_MISSING = 9,
	STATUS_QEMU_NO_SVM = 10,
	STATUS_VMM_MISSING = 11,
	STATUS_TRIPLE_FAULT = 12,
	STATUS_REBOOT = 13,
	STATUS_UNMAPPED = 14,
	STATUS_EMULATE = 15,
	STATUS_NOMEM = 16,
	STATUS_TIMEOUT = 17,
	STATUS_AUDIT = 18,
	STATUS_WORKLOAD = 19,
	STATUS_PANIC = 20,
	STATUS_VANISHED = 21,
	STATUS_ENDED = 22, /* Ctrl-A x */
	STATUS_IMAGE = 23,
	STATUS_FETCH = 24,
	STATUS_DISK = 25,
	STATUS_BREACH = 26,
	STATUS_TRACE = 27, /* the host does not let us read or write it */
	STATUS_DIVERGED = 28,
	STATUS_CONTROL = 29,         /* no machine answers at a socket, or it is taken */
	STATUS_NO_SUCH = 30,         /* no such gfn, gva, vcpu, event */
	STATUS_ABSENT = 31,          /* a trace does not have the property that shrink was given */
	STATUS_TRACE_FULL = 32,      /* the disk is full */
	STATUS_TRACE_EMPTY = 33,     /* no byte in it */
	STATUS_TRACE_NOT = 34,       /* not a trace */
	STATUS_TRACE_ENDIAN = 35,    /* of a machine of the other endianness */
	STATUS_TRACE_VERSION = 36,   /* of another version */
	STATUS_TRACE_TRUNCATED = 37, /* it ends in the middle */
	STATUS_TRACE_DAMAGED = 38,
	STATUS_FOREIGN = 39,   /* not a trace.dat that can be imported */
	STATUS_PARTIAL = 40,   /* a trace.dat is damaged; what could be read was imported */
	STATUS_NO_REPLAY = 41, /* a trace that was imported cannot be replayed */
	STATUS_SWAP = 42,      /* the swap file cannot be used, or lost a guest's page */
	STATUS_SIGNAL = 128,   /* + number of SIGHUP, SIGINT or SIGTERM */
};

/* Print "umbra: <message>" on standard error; returns @status. */
enum status complain(enum status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
