/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starts and ends QEMU. The child gets a parent-death signal, so that killing us, with SIGKILL
 * too, leaves nothing behind; every file it needs is a descriptor that it inherits and opens
 * again through /proc/self/fd, so that there are no temporary files and no names to quote.
 */
#include "qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "clock.h"
#include "serve.h"

#define DEFAULT_QEMU  "qemu-system-x86_64"
#define ARGUMENTS_MAX 48
#define SPARE_BYTES   (256ull << 20)
#define SPARE_MORE    (128ull << 20) /* for each guest but the first */
#define INHERIT_MAX   (5 + MODULES_MAX)

struct arguments {
	char *list[ARGUMENTS_MAX]; /* all from malloc */
	size_t count;
	bool failed;
	int inherit[INHERIT_MAX];
	size_t inherited;
};

/*
 * Frames for all guests, and some to move them to or as many as asked for; and what each guest
 * takes of the hypervisor, whose tables go by the guest's pages.
 */
uint64_t qemu_machine_bytes(const struct options *options)
{
	uint64_t memory = options->memory * options->guests;
	uint64_t frames = options->frames ? options->frames + memory / 64 : memory + memory / 8;

	return (frames & ~0xfffffull) + SPARE_BYTES + (options->guests - 1) * SPARE_MORE;
}

enum status ram_open(struct ram *ram, const struct options *options)
{
	const uint64_t bytes = qemu_machine_bytes(options);
	const int fd = memfd_create("umbra-ram", MFD_CLOEXEC);
	char *pages;

	ram[0] = (struct ram){.fd = fd, .bytes = bytes};
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
		return complain(STATUS_ERROR, "memory for the machine: %s", strerror(errno));
	pages = mmap(NULL, UMBRA_GUESTS_MAX * UMBRA_MACHINE_STRIDE, PROT_READ | PROT_WRITE,
		     MAP_SHARED, fd, UMBRA_MACHINE_ADDRESS);
	if (pages == MAP_FAILED)
		return complain(STATUS_ERROR, "cannot map the machine pages: %s", strerror(errno));
	for (unsigned i = 0; i < options->guests; i++)
		ram[i] = (struct ram){
		    .fd = fd, .bytes = bytes, .page = (void *)(pages + i * UMBRA_MACHINE_STRIDE)};
	return STATUS_OK;
}

void ram_close(struct ram *ram)
{
	if (ram[0].page)
		munmap(ram[0].page, UMBRA_GUESTS_MAX * UMBRA_MACHINE_STRIDE);
	if (ram[0].fd >= 0)
		close(ram[0].fd);
	ram[0] = RAM_NONE;
}

__attribute__((format(printf, 2, 3))) static void add(struct arguments *arguments,
						      const char *format, ...)
{
	va_list list;
	char *text = NULL;

	va_start(list, format);
	if (arguments->count + 1 >= ARGUMENTS_MAX || vasprintf(&text, format, list) < 0)
		arguments->failed = true;
	else
		arguments->list[arguments->count++] = text;
	va_end(list);
}

static int share(struct arguments *arguments, int fd)
{
	arguments->inherit[arguments->inherited++] = fd;
	return fd;
}

static void free_arguments(struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->count; i++)
		free(arguments->list[i]);
}

/* What both kinds of machine have in common. */
static void add_common(struct arguments *arguments, const struct options *options)
{
	static const char *const words[] = {
	    "-M",       "pc",   "-accel",      "tcg,thread=single",
	    "-cpu",     "max",  "-nodefaults", "-no-user-config",
	    "-display", "none", "-serial",     "stdio",
	    "-monitor", "none", "-no-reboot",
	};

	add(arguments, "%s", options->qemu ? options->qemu : DEFAULT_QEMU);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		add(arguments, "%s", words[i]);
}

/* QEMU splits its list of boot modules at single commas. */
static char *double_commas(const char *text)
{
	char *doubled = malloc(2 * strlen(text) + 1), *to = doubled;

	for (; doubled && *text; text++) {
		if (*text == ',')
			*to++ = ',';
		*to++ = *text;
	}
	if (doubled)
		*to = '\0';
	return doubled;
}

/* The child, between fork and exec: only async-signal-safe calls. */
static _Noreturn void become_qemu(const struct arguments *arguments, const int ends[3], int report,
				  pid_t parent)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	setpgid(0, 0); /* a Ctrl-C at our terminal is for us to handle */
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < 3; i++)
		dup2(ends[i], i);
	for (size_t i = 0; i < arguments->inherited; i++)
		fcntl(arguments->inherit[i], F_SETFD, 0);
	execvp(arguments->list[0], arguments->list);
	int error = errno;
	if (write(report, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

static enum status start(struct qemu *qemu, struct arguments *arguments)
{
	int pipes[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}}; /* in, out, err, exec's errno */
	int error = 0;
	pid_t parent = getpid();

	*qemu = (struct qemu){.input = -1, .output = -1, .errors = -1};
	for (int i = 0; i < 4; i++)
		if (pipe2(pipes[i], O_CLOEXEC) != 0)
			error = errno;
	qemu->started = clock_now();
	if (!error && !arguments->failed) {
		qemu->pid = fork();
		if (qemu->pid == 0)
			become_qemu(arguments, (int[]){pipes[0][0], pipes[1][1], pipes[2][1]},
				    pipes[3][1], parent);
	}
	if (error || arguments->failed || qemu->pid < 0) {
		for (int i = 0; i < 4; i++)
			close_pair(pipes[i]);
		qemu->pid = 0;
		return complain(STATUS_ERROR, "cannot start a process: %s",
				strerror(error               ? error
					 : arguments->failed ? ENOMEM
							     : errno));
	}
	qemu->input = pipes[0][1];
	qemu->output = pipes[1][0];
	qemu->errors = pipes[2][0];
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	close(pipes[3][1]);
	if (read(pipes[3][0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(pipes[3][0]);
	fcntl(qemu->input, F_SETFL, O_NONBLOCK);
	if (error) {
		qemu_stop(qemu);
		return complain(
		    STATUS_QEMU_MISSING,
		    "cannot run %s: %s; install QEMU (Debian: qemu-system-x86) or name it with "
		    "--qemu",
		    arguments->list[0], strerror(error));
	}
	return STATUS_OK;
}

/* ",FILE WORDS" for each of the guest's modules. From malloc, or NULL. */
static char *make_modules(struct arguments *arguments, const struct options *options,
			  const struct guest *guest)
{
	char *list = strdup("");

	for (unsigned i = 0; list && i < options->module_count; i++) {
		const char *words = strchr(options->modules[i], ' ');
		char *doubled = double_commas(words ? words : ""), *longer = NULL;

		if (!doubled || asprintf(&longer, "%s,/proc/self/fd/%d%s", list,
					 share(arguments, guest->module_fd[i]), doubled) < 0)
			longer = NULL;
		free(doubled);
		free(list);
		list = longer;
	}
	return list;
}

/* What the hypervisor is told about frames and files. */
static void describe_files(char *text, size_t size, const struct options *options,
			   const struct server *server)
{
	const struct store *disk = &server->store[UMBRA_FILE_DISK];
	const struct store *swap = &server->store[UMBRA_FILE_SWAP];
	int at = 0;

	if (disk->fd >= 0)
		at += snprintf(text + at, size - (size_t)at, " disk=%llu disk_ro=%d",
			       (unsigned long long)disk->bytes / 512, disk->read_only);
	if (swap->fd >= 0)
		at += snprintf(text + at, size - (size_t)at, " swap=%llu",
			       (unsigned long long)(swap->bytes - swap->first) / 4096);
	if (options->frames)
		snprintf(text + at, size - (size_t)at, " frames=%llu",
			 (unsigned long long)options->frames);
}

enum status qemu_start_umbra(struct qemu *qemu, const struct options *options,
			     const struct guest *guest, const struct ram *ram,
			     const struct server *server, int vmm_fd)
{
	struct arguments arguments = {0};
	char *cmdline = double_commas(guest->cmdline);
	char initrd[64] = "", quota[32] = "", files[160] = "",
	     *modules = make_modules(&arguments, options, guest);

	if (guest->initrd_fd >= 0)
		snprintf(initrd, sizeof(initrd), ",/proc/self/fd/%d",
			 share(&arguments, guest->initrd_fd));
	if (options->quota)
		snprintf(quota, sizeof(quota), " quota=%u", options->quota);
	describe_files(files, sizeof(files), options, server);
	add_common(&arguments, options);
	add(&arguments, "-m");
	add(&arguments, "%lluM", (unsigned long long)(ram->bytes >> 20));
	add(&arguments, "-object");
	add(&arguments, "memory-backend-file,id=ram,size=%llu,mem-path=/proc/self/fd/%d,share=on",
	    (unsigned long long)ram->bytes, share(&arguments, ram->fd));
	add(&arguments, "-machine");
	add(&arguments, "memory-backend=ram");
	add(&arguments, "-device");
	add(&arguments, "isa-debug-exit,iobase=0xf4,iosize=0x4");
	add(&arguments, "-kernel");
	add(&arguments, "/proc/self/fd/%d", share(&arguments, vmm_fd));
	if (server->bell[1] >= 0) {
		add(&arguments, "-chardev");
		add(&arguments, "socket,id=bell,fd=%d", share(&arguments, server->bell[1]));
		add(&arguments, "-serial");
		add(&arguments, "chardev:bell");
	}
	add(&arguments, "-append");
	add(&arguments,
	    "memory=%llu%s%s storm=%u format=%u nested=%u console=%d seal=%d record=%d guests=%u "
	    "record_guest=%u merge=%u compact=%u",
	    (unsigned long long)options->memory, quota, files, options->storm, guest->format,
	    options->paging == PAGING_NESTED, options->virtio_console, options->seal,
	    options->record != NULL, options->guests, options->record_guest, options->merge,
	    options->compact);
	add(&arguments, "-initrd");
	add(&arguments, "/proc/self/fd/%d %s%s%s", share(&arguments, guest->kernel_fd),
	    cmdline ? cmdline : "", initrd, modules ? modules : "");
	arguments.failed |= !cmdline || !modules;
	enum status status = start(qemu, &arguments);
	free(cmdline);
	free(modules);
	free_arguments(&arguments);
	return status;
}

enum status qemu_start_plain(struct qemu *qemu, const struct options *options,
			     const struct guest *guest)
{
	struct arguments arguments = {0};

	add_common(&arguments, options);
	add(&arguments, "-m");
	add(&arguments, "%lluM", (unsigned long long)(options->memory >> 20));
	add(&arguments, "-kernel");
	add(&arguments, "/proc/self/fd/%d", share(&arguments, guest->kernel_fd));
	add(&arguments, "-append");
	add(&arguments, "%s", guest->cmdline);
	if (guest->initrd_fd >= 0) {
		add(&arguments, "-initrd");
		add(&arguments, "/proc/self/fd/%d", share(&arguments, guest->initrd_fd));
	}
	enum status status = start(qemu, &arguments);
	free_arguments(&arguments);
	return status;
}

bool qemu_read_errors(struct qemu *qemu)
{
	char more[512];
	ssize_t got = read(qemu->errors, more, sizeof(more));

	if (got <= 0)
		return got < 0 && errno == EINTR;
	size_t room = sizeof(qemu->said) - 1 - qemu->said_length;
	size_t kept = (size_t)got < room ? (size_t)got : room;
	memcpy(qemu->said + qemu->said_length, more, kept);
	qemu->said_length += kept;
	qemu->said[qemu->said_length] = '\0';
	return true;
}

bool qemu_ended(struct qemu *qemu)
{
	if (!qemu->reaped && qemu->pid &&
	    waitpid(qemu->pid, &qemu->wait_status, WNOHANG) == qemu->pid)
		qemu->reaped = true;
	return qemu->reaped;
}

void qemu_stop(struct qemu *qemu)
{
	if (qemu->pid && !qemu_ended(qemu)) {
		kill(qemu->pid, SIGKILL);
		while (waitpid(qemu->pid, &qemu->wait_status, 0) < 0 && errno == EINTR)
			;
		qemu->reaped = true;
	}
	int *fds[] = {&qemu->input, &qemu->output, &qemu->errors};
	for (size_t i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	qemu->pid = 0;
}
