/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's init: mounts what there is to mount, says that it is there, and runs a shell or the
 * workload, or hands over to the init of a disk, as the kernel command line says
 * (umbra.mode=shell|workload|disk). Then it switches the machine off. It never returns: a PID 1
 * that ends is a kernel panic.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "control.h"
#include "disk.h"
#include "modules.h"
#include "words.h"
#include "workload.h"

#define SHELL "/bin/busybox"

static void mount_one(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL) != 0 && errno != EBUSY)
		printf("umbra-init: cannot mount %s: %s\n", where, strerror(errno));
}

/* Standard input, output and error: the console, whatever the kernel gave us. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static _Noreturn void power_off(void)
{
	fflush(stdout);
	tcdrain(1);
	sync();
	control_call(UMBRA_CTL_POWEROFF, 0);
	reboot(RB_POWER_OFF);
	reboot(RB_HALT_SYSTEM);
	for (;;)
		pause();
}

/* The real terminal behind /dev/console: that one can be a controlling terminal. */
static int open_terminal(void)
{
	char name[64] = "", path[80];
	int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, name, sizeof(name) - 1);

	if (fd >= 0)
		close(fd);
	name[got > 0 ? got : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	char *last = strrchr(name, ' ');
	snprintf(path, sizeof(path), "/dev/%s", last ? last + 1 : name);
	return open(path, O_RDWR);
}

static _Noreturn void shell_exec(void)
{
	struct winsize size = {
	    .ws_row = (unsigned short)words_number("rows", 24, 2, 1000),
	    .ws_col = (unsigned short)words_number("columns", 80, 20, 1000),
	};
	char term[64];

	setsid();
	int fd = open_terminal();
	if (fd >= 0) {
		ioctl(fd, TIOCSCTTY, 1);
		ioctl(fd, TIOCSWINSZ, &size);
		for (int i = 0; i < 3; i++)
			dup2(fd, i);
		if (fd > 2)
			close(fd);
	}
	words_string("term", "vt100", term, sizeof(term));
	setenv("TERM", term, 1);
	setenv("HOME", "/root", 1);
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("PS1", "guest:\\w# ", 1);
	execl(SHELL, "sh", "-i", (char *)NULL);
	printf("umbra-init: cannot run " SHELL ": %s\n", strerror(errno));
	_exit(1);
}

static void install_applets(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl(SHELL, "busybox", "--install", "-s", (char *)NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void run_shell(void)
{
	for (size_t i = 0; i < 4; i++)
		mkdir((const char *[]){"/root", "/usr", "/usr/bin", "/usr/sbin"}[i], 0755);
	mkdir("/sbin", 0755);
	install_applets();
	printf("umbra-init: a shell; exit or Ctrl-D ends the guest, Ctrl-A x the machine\n");
	pid_t shell = fork();
	if (shell == 0)
		shell_exec();
	for (pid_t pid = -1; shell > 0 && pid != shell;)
		pid = wait(NULL);
}

/* Does the kernel use a feature of the processor, by its name in /proc/cpuinfo? */
static bool has_flag(const char *name)
{
	char line[8192];
	bool found = false;
	FILE *file = fopen("/proc/cpuinfo", "re");

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *flag = strncmp(line, "flags", 5) == 0 ? strtok(line, " \t\n") : NULL;

		for (; flag && !found; flag = strtok(NULL, " \t\n"))
			found = strcmp(flag, name) == 0;
	}
	if (file)
		fclose(file);
	return found;
}

int main(void)
{
	char mode[16];

	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("devtmpfs", "/dev");
	modules_load();
	open_console();
	printf("umbra-init: ready\n");
	if (has_flag("la57"))
		printf("umbra-init: five levels of page tables\n");
	control_open();
	control_call(UMBRA_CTL_INIT, 0);
	words_read();
	words_string("mode", "workload", mode, sizeof(mode));
	if (strcmp(mode, "shell") == 0 && words_number("guest", 0, 0, 7)) /* keys go to guest 0 */
		strcpy(mode, "workload");
	if (strcmp(mode, "shell") == 0) {
		run_shell();
	} else if (strcmp(mode, "workload") == 0) {
		bool ok = workload_run();
		control_call(UMBRA_CTL_RESULT, ok ? 0 : 1);
		printf("umbra-init: workload %s\n", ok ? "ok" : "failed");
	} else if (strcmp(mode, "disk") == 0) {
		disk_boot();
	} else {
		printf("umbra-init: umbra.mode=%s: no such mode (shell, workload, disk)\n", mode);
	}
	power_off();
}
