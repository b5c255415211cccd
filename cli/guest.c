/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opens and judges what the guest is made of. Owns the two descriptors and the command line; the
 * files are handed to QEMU as inherited descriptors, so their names may hold anything.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "kernel.h"

#define DEFAULT_WORDS "noapic acpi=off tsc=reliable panic=-1 reboot=k quiet no5lvl nopku"
#define FETCH_SCRIPT  "fetch-kernel"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Run scripts/fetch-kernel, which says on standard error what it does. */
static enum status fetch_kernel(const char *cache, const char *want)
{
	char script[PATH_MAX];
	int status = 0;

	if (!files_find("cli/" FETCH_SCRIPT, FETCH_SCRIPT, script))
		return complain(STATUS_FETCH,
				"%s is missing: build or install again, or name a kernel "
				"with --kernel",
				script);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(2, 1);
		execl("/bin/sh", "sh", script, cache, want, (char *)NULL);
		_exit(127);
	}
	if (pid < 0)
		return complain(STATUS_ERROR, "fork: %s", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return (enum status)(STATUS_SIGNAL + WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return complain(STATUS_FETCH, "Debian's kernel could not be fetched (see above); "
					      "name one with --kernel");
	return STATUS_OK;
}

/* Does the default guest need modules of its kernel's? */
static bool needs_modules(const struct options *options)
{
	return !options->kernel && !options->initrd && !options->no_initrd &&
	       (options->disk || options->virtio_console);
}

/* Debian's kernel, and its modules for our initramfs; both are fetched if need be. */
static enum status default_kernel(const struct options *options, char path[PATH_MAX],
				  char modules[PATH_MAX])
{
	char cache[PATH_MAX];
	bool more = needs_modules(options);

	if (!files_cache(cache))
		return complain(STATUS_FETCH, "no place to keep Debian's kernel: set HOME or "
					      "XDG_CACHE_HOME, or name a kernel with --kernel");
	if (snprintf(path, PATH_MAX, "%s/vmlinuz", cache) >= PATH_MAX ||
	    snprintf(modules, PATH_MAX, "%s/modules.cpio", cache) >= PATH_MAX)
		return complain(STATUS_FETCH, "%s: name too long", cache);
	if (access(path, R_OK) == 0 && (!more || access(modules, R_OK) == 0))
		return STATUS_OK;
	return fetch_kernel(cache, more ? "modules" : "");
}

static enum status open_kernel(struct guest *guest, const struct options *options)
{
	char fetched[PATH_MAX];
	const char *path = options->kernel;
	struct kernel kernel;
	enum status status;

	if (!path) {
		status = default_kernel(options, fetched, guest->modules);
		if (status != STATUS_OK)
			return status;
		path = fetched;
	}
	guest->kernel_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (guest->kernel_fd < 0)
		return complain(STATUS_KERNEL_MISSING,
				"kernel %s: %s; name one with --kernel, or none for Debian's", path,
				strerror(errno));
	status = kernel_check(guest->kernel_fd, path, options->format, &kernel);
	if (status != STATUS_OK)
		return status;
	guest->format = kernel.format;
	if (kernel.needed > options->memory)
		return complain(
		    STATUS_MEMORY,
		    "the kernel needs %llu MiB to unpack itself, the guest has %llu; give "
		    "more with --memory",
		    (unsigned long long)(kernel.needed >> 20) + 1,
		    (unsigned long long)(options->memory >> 20));
	snprintf(guest->name, sizeof(guest->name), "%.255s",
		 kernel.version[0] ? kernel.version : base_name(path));
	return STATUS_OK;
}

static bool is_linux(const struct guest *guest)
{
	return guest->format <= KERNEL_LINUX_64;
}

static enum status open_modules(struct guest *guest, const struct options *options)
{
	if (options->module_count && guest->format != KERNEL_MULTIBOOT)
		return complain(STATUS_USAGE, "--module is for Multiboot guests");
	for (unsigned i = 0; i < options->module_count; i++) {
		char path[PATH_MAX];
		size_t length = strcspn(options->modules[i], " ");
		struct stat file;

		snprintf(path, sizeof(path), "%.*s", (int)length, options->modules[i]);
		guest->module_fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (guest->module_fd[i] < 0 || fstat(guest->module_fd[i], &file) != 0)
			return complain(STATUS_INITRD_MISSING,
					"module %s: %s; name another with "
					"--module",
					path, strerror(errno));
		if (!S_ISREG(file.st_mode) || (uint64_t)file.st_size > options->memory)
			return complain(STATUS_INITRD_SIZE,
					"module %s: not a regular file, or larger than the guest's "
					"memory",
					path);
	}
	return STATUS_OK;
}

/* Append the file @fd to @to. */
static bool append(int to, int fd)
{
	char bytes[65536];
	ssize_t got;

	while ((got = read(fd, bytes, sizeof(bytes))) > 0)
		if (write(to, bytes, (size_t)got) != got)
			return false;
	return got == 0;
}

/* In place of the initramfs: it and the modules' archive, behind one another as Linux takes them.
 */
static enum status add_modules(struct guest *guest)
{
	int modules = open(guest->modules, O_RDONLY | O_CLOEXEC);
	int both = memfd_create("umbra-initrd", MFD_CLOEXEC);
	bool done =
	    modules >= 0 && both >= 0 && append(both, guest->initrd_fd) && append(both, modules);
	int error = errno;

	if (modules >= 0)
		close(modules);
	close(guest->initrd_fd);
	guest->initrd_fd = both;
	return done ? STATUS_OK
		    : complain(STATUS_INITRD_MISSING, "modules for the guest's kernel, %s: %s",
			       guest->modules, strerror(error));
}

static enum status open_initrd(struct guest *guest, const struct options *options)
{
	char ours[PATH_MAX];
	const char *path = options->initrd;
	struct stat file;

	if (options->no_initrd || (!path && !is_linux(guest)))
		return STATUS_OK;
	if (!is_linux(guest))
		return complain(STATUS_USAGE, "--initrd is for Linux; give a Multiboot guest its "
					      "files with --module");
	if (!path) {
		if (!files_find("guest/initramfs.cpio", "initramfs.cpio", ours))
			return complain(
			    STATUS_INITRD_MISSING,
			    "umbra's own initramfs %s is missing; build or install again, or "
			    "use --initrd",
			    ours);
		path = ours;
	}
	guest->initrd_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (guest->initrd_fd >= 0 && needs_modules(options)) {
		enum status status = add_modules(guest);
		if (status != STATUS_OK)
			return status;
	}
	if (guest->initrd_fd < 0 || fstat(guest->initrd_fd, &file) != 0)
		return complain(STATUS_INITRD_MISSING, "initrd %s: %s; name another with --initrd",
				path, strerror(errno));
	if (!S_ISREG(file.st_mode))
		return complain(STATUS_INITRD_MISSING, "initrd %s: not a regular file", path);
	if ((uint64_t)file.st_size + (16 << 20) > options->memory)
		return complain(
		    STATUS_INITRD_SIZE,
		    "initrd %s: its %llu MiB do not fit in a guest of %llu MiB; give more with "
		    "--memory",
		    path, (unsigned long long)(file.st_size >> 20) + 1,
		    (unsigned long long)(options->memory >> 20));
	return STATUS_OK;
}

/* Words for our init; a kernel or init of other people passes them over. */
static char *make_cmdline(const struct guest *guest, const struct options *options, bool shell)
{
	bool pci = options->disk || options->virtio_console;
	const char *base = options->cmdline ? options->cmdline : DEFAULT_WORDS;
	const char *more = options->append ? options->append : "";
	const char *term = getenv("TERM");
	struct winsize size = {0};
	char *line = NULL, words[160];

	if (!is_linux(guest)) /* by the file's name, as Multiboot loaders do */
		base = options->cmdline ? options->cmdline : base_name(options->kernel);
	if (shell && ioctl(0, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
		snprintf(words, sizeof(words),
			 " umbra.mode=shell umbra.term=%.32s umbra.rows=%u umbra.columns=%u",
			 term && *term ? term : "vt100", size.ws_row, size.ws_col);
	else
		snprintf(words, sizeof(words), " umbra.mode=%s umbra.storm=%u",
			 shell ? "shell" : "workload", options->storm);
	if (options->cmdline || !is_linux(guest))
		return asprintf(&line, "%s%s%s", base, *more ? " " : "", more) < 0 ? NULL : line;
	if (asprintf(&line, "console=%s %s%s%s%s%s%s", options->virtio_console ? "hvc0" : "ttyS0",
		     base, pci ? "" : " pci=off", words,
		     options->disk ? " umbra.mode=disk root=/dev/vda" : "", *more ? " " : "",
		     more) < 0)
		return NULL;
	return line;
}

enum status guest_open(struct guest *guest, const struct options *options, bool shell)
{
	enum status status;

	*guest = (struct guest){.kernel_fd = -1, .initrd_fd = -1};
	for (unsigned i = 0; i < MODULES_MAX; i++)
		guest->module_fd[i] = -1;
	status = open_kernel(guest, options);
	if (status == STATUS_OK)
		status = open_initrd(guest, options);
	if (status == STATUS_OK)
		status = open_modules(guest, options);
	if (status != STATUS_OK)
		return status;
	guest->cmdline = make_cmdline(guest, options, shell);
	if (!guest->cmdline)
		return complain(STATUS_ERROR, "out of memory");
	if (strpbrk(guest->cmdline, "\n\r"))
		return complain(STATUS_USAGE, "--append, --cmdline: one line only");
	guest->expect_workload = is_linux(guest) && !shell && !options->initrd && !options->disk &&
				 !options->no_initrd && !options->cmdline &&
				 !strstr(guest->cmdline, "umbra.mode=shell");
	return STATUS_OK;
}

void guest_close(struct guest *guest)
{
	if (guest->kernel_fd >= 0)
		close(guest->kernel_fd);
	if (guest->initrd_fd >= 0)
		close(guest->initrd_fd);
	for (unsigned i = 0; i < MODULES_MAX; i++)
		if (guest->module_fd[i] >= 0)
			close(guest->module_fd[i]);
	free(guest->cmdline);
}
