/*
 * Runs programs on a host and measures them, for packer/matrixrun.py. A host needs nothing else: no shell, no Python.
 *
 *   agent DIR              as the user who starts it; DIR is removed at the end
 *   agent init TTY UID DIR as the first process of a machine, whose filesystems it mounts; it goes on as UID
 *
 * It says "ready\n", then answers requests until its stdin ends: with that whatever runs is killed, so that nothing
 * stays behind when those who asked are gone. A request is a line of five numbers and SIZE bytes:
 *
 *   FRESH MILLISECONDS ARGUMENTS VARIABLES SIZE\n
 *
 * ARGUMENTS strings with their NULs, the first of them is executed; VARIABLES strings NAME=VALUE, or NAME to have it
 * unset; the rest is the program's stdin. It runs in DIR/home, which is emptied before if FRESH is 1, as HOME. An
 * answer is a line and SIZE bytes, the end of what it wrote to both streams:
 *
 *   exited|killed|late|failed NUMBER NANOSECONDS SIZE\n
 *
 * NUMBER is the exit status, the signal, nothing for "late", which took longer than allowed, or the errno of "failed",
 * which could not be executed. The program is over when its first process is; its other ones are killed then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define KEPT ((size_t)1 << 20) /* bytes of output */
#define LARGEST ((size_t)64 << 20) /* request */

struct request {
	int fresh;
	long long milliseconds;
	char **argv;
	char **variables;
	const char *input;
	size_t input_size;
};

struct ending {
	const char *how;
	int number;
	long long nanoseconds;
};

static char output[2 * KEPT];
static size_t output_size;
static char home[PATH_MAX];
static const char *directory;
static int children; /* a signalfd */

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* the files of the program --------------------------------------------------------------------------------------- */

/* what is in a store may not be written to, not even by its owner */
static int
open_up(const char *path, const struct stat *status, int type, struct FTW *place)
{
	(void)status, (void)place;
	if (type == FTW_D)
		(void)chmod(path, 0700);
	return 0;
}

static int
take_away(const char *path, const struct stat *status, int type, struct FTW *place)
{
	(void)status, (void)type, (void)place;
	(void)remove(path);
	return 0;
}

static void
removetree(const char *path)
{
	nftw(path, open_up, 16, FTW_PHYS);
	nftw(path, take_away, 16, FTW_PHYS | FTW_DEPTH);
}

/* processes ------------------------------------------------------------------------------------------------------ */

static pid_t
parentof(const char *pid)
{
	char path[64], text[512], *end;
	ssize_t n;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	end = strrchr(text, ')');
	return end && sscanf(end, ") %*c %d", &parent) == 1 ? parent : -1;
}

/* kill whatever is our child by now; as a subreaper we get the children of those that end */
static void
killchildren(void)
{
	struct dirent *entry;
	DIR *proc;

	if (getpid() == 1) {
		kill(-1, SIGKILL);
		return;
	}
	proc = opendir("/proc");
	while (proc && (entry = readdir(proc)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && parentof(entry->d_name) == getpid())
			kill((pid_t)atoi(entry->d_name), SIGKILL);
	if (proc)
		closedir(proc);
}

/* have nothing left that came of the program */
static void
sweep(pid_t program)
{
	pid_t pid;

	kill(-program, SIGKILL);
	for (;;) {
		killchildren();
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static _Noreturn void
leave(void)
{
	if (getpid() == 1)
		kill(-1, SIGKILL);
	removetree(directory);
	_exit(0);
}

/* one run -------------------------------------------------------------------------------------------------------- */

static long long
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* what is to be read; -1: nothing yet, 0: nothing any more */
static ssize_t
keep(int fd)
{
	ssize_t n;

	if (output_size == sizeof(output)) {
		memmove(output, output + KEPT, KEPT);
		output_size = KEPT;
	}
	n = read(fd, output + output_size, sizeof(output) - output_size);
	if (n > 0)
		output_size += (size_t)n;
	return n;
}

/* a file that has no name any more */
static int
inputfile(const struct request *rq)
{
	char path[PATH_MAX + 16];
	int fd;

	if (!rq->input_size)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/input", directory);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	unlink(path);
	if (write(fd, rq->input, rq->input_size) != (ssize_t)rq->input_size || lseek(fd, 0, SEEK_SET))
		return -1;
	return fd;
}

static _Noreturn void
become(const struct request *rq, int input, int out, int failure)
{
	sigset_t none;
	char **variable;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	for (variable = rq->variables; *variable; variable++)
		if (strchr(*variable, '='))
			putenv(*variable);
		else
			unsetenv(*variable);
	setenv("HOME", home, 1);
	if (chdir(home) == 0 && dup2(input, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2)
		execv(rq->argv[0], rq->argv);
	(void)!write(failure, &errno, sizeof(errno));
	_exit(127);
}

/* reap what has ended: whether the program has, and how */
static int
reaped(pid_t program, struct ending *end)
{
	struct signalfd_siginfo skipped;
	pid_t pid;
	int status, found = 0;

	while (read(children, &skipped, sizeof(skipped)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program) {
			*end = WIFEXITED(status) ? (struct ending){"exited", WEXITSTATUS(status), 0}
			                         : (struct ending){"killed", WTERMSIG(status), 0};
			found = 1;
		}
	return found;
}

/* wait for the end of the program, of the time it has, or of those who asked */
static struct ending
watch(pid_t program, int out, long long deadline)
{
	struct pollfd polled[3] = {{0, POLLIN, 0}, {children, POLLIN, 0}, {out, POLLIN, 0}};
	struct ending end = {"late", 0, 0};
	long long left;

	while ((left = deadline - now()) > 0) {
		if (poll(polled, 3, (int)(left / 1000000 < 60000 ? left / 1000000 + 1 : 60000)) < 0)
			continue;
		if (polled[0].revents) { /* nobody asks before the answer, so this is the end */
			sweep(program);
			leave();
		}
		if (polled[2].revents && keep(out) == 0)
			polled[2].fd = -1;
		if (polled[1].revents && reaped(program, &end))
			break;
	}
	return end;
}

static struct ending
run(const struct request *rq)
{
	int out[2], failure[2], input, error = 0;
	long long began;
	struct ending end;
	pid_t program;

	output_size = 0;
	if (rq->fresh)
		removetree(home);
	if (mkdir(home, 0700) < 0 && errno != EEXIST)
		die(home);
	input = inputfile(rq);
	if (input < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(failure, O_CLOEXEC) < 0)
		die(directory);
	began = now();
	program = fork();
	if (program < 0)
		die("fork");
	if (!program)
		become(rq, input, out[1], failure[1]);
	close(out[1]);
	close(failure[1]);
	close(input);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	if (read(failure[0], &error, sizeof(error)) == sizeof(error))
		end = (struct ending){"failed", error, 0};
	else
		end = watch(program, out[0], began + rq->milliseconds * 1000000);
	end.nanoseconds = now() - began;
	sweep(program);
	while (keep(out[0]) > 0)
		;
	close(out[0]);
	close(failure[0]);
	return end;
}

/* requests and answers ------------------------------------------------------------------------------------------- */

static void
readall(char *to, size_t size)
{
	ssize_t n;

	while (size) {
		n = read(0, to, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			leave();
		to += n;
		size -= (size_t)n;
	}
}

static void
writeall(const char *from, size_t size)
{
	ssize_t n;

	while (size) {
		n = write(1, from, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			leave();
		from += n;
		size -= (size_t)n;
	}
}

static void
answer(const struct ending *end)
{
	size_t size = output_size < KEPT ? output_size : KEPT;
	char line[128];
	int n;

	n = snprintf(line, sizeof(line), "%s %d %lld %zu\n", end->how, end->number, end->nanoseconds, size);
	writeall(line, (size_t)n);
	writeall(output + output_size - size, size);
}

/* as many strings as there should be, and a NULL behind them */
static char **
strings(size_t count, char **at, const char *end)
{
	char **list = calloc(count + 1, sizeof(*list));
	size_t i;

	for (i = 0; list && i < count && *at < end; i++) {
		list[i] = *at;
		*at += strlen(*at) + 1;
	}
	errno = EPROTO;
	if (!list || i < count || *at > end)
		die("request");
	return list;
}

static void
serve(void)
{
	size_t arguments, variables, size, i;
	struct request rq;
	struct ending end;
	char line[128], *payload, *at;

	for (i = 0; i < sizeof(line) - 1; i++) {
		readall(line + i, 1);
		if (line[i] == '\n')
			break;
	}
	line[i] = '\0';
	errno = EPROTO;
	if (sscanf(line, "%d %lld %zu %zu %zu", &rq.fresh, &rq.milliseconds, &arguments, &variables, &size) != 5 ||
	    !arguments || size > LARGEST || arguments > size || variables > size)
		die("request");
	payload = malloc(size + 1);
	if (!payload)
		die("request");
	readall(payload, size);
	payload[size] = '\0';
	at = payload;
	rq.argv = strings(arguments, &at, payload + size);
	rq.variables = strings(variables, &at, payload + size);
	rq.input = at;
	rq.input_size = (size_t)(payload + size - at);
	end = run(&rq);
	answer(&end);
	free(rq.argv);
	free(rq.variables);
	free(payload);
}

/* a machine of its own ------------------------------------------------------------------------------------------- */

static void
filesystem(const char *type, const char *place, const char *options)
{
	mkdir(place, 0755);
	if (mount(type, place, type, 0, options) < 0 && errno != EBUSY) /* the kernel may have mounted /dev */
		die(place);
}

static void
loopback(void)
{
	struct ifreq rq = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(rq.ifr_name, "lo", 3);
	rq.ifr_flags = IFF_UP | IFF_RUNNING;
	if (fd < 0)
		return;
	ioctl(fd, SIOCSIFFLAGS, &rq);
	close(fd);
}

/* have requests come from a serial line, as they are */
static void
serial(const char *tty)
{
	struct termios mode;
	int fd = open(tty, O_RDWR | O_NOCTTY);

	if (fd < 0 || tcgetattr(fd, &mode) < 0)
		die(tty);
	cfmakeraw(&mode);
	mode.c_cflag |= CLOCAL | CREAD;
	if (tcsetattr(fd, TCSANOW, &mode) < 0 || dup2(fd, 0) != 0 || dup2(fd, 1) != 1)
		die(tty);
	if (fd > 2)
		close(fd);
}

static void
begin(const char *tty, const char *user)
{
	unsigned id = (unsigned)atoi(user);

	filesystem("devtmpfs", "/dev", "");
	filesystem("proc", "/proc", "");
	filesystem("sysfs", "/sys", "");
	filesystem("tmpfs", "/tmp", "mode=1777");
	filesystem("tmpfs", "/run", "mode=755");
	filesystem("tmpfs", "/dev/shm", "mode=1777");
	if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("/proc/self/fd/0", "/dev/stdin") < 0 ||
	    symlink("/proc/self/fd/1", "/dev/stdout") < 0 || symlink("/proc/self/fd/2", "/dev/stderr") < 0)
		die("/dev");
	loopback();
	serial(tty);
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		die(directory);
	if (chown(directory, id, id) < 0 || setgroups(0, NULL) < 0 || setgid(id) < 0 || setuid(id) < 0)
		die("becoming another user");
}

int
main(int argc, char **argv)
{
	sigset_t ended;

	umask(022);
	directory = argv[argc - 1];
	if (argc == 5 && strcmp(argv[1], "init") == 0)
		begin(argv[2], argv[3]);
	else if (argc != 2) {
		fprintf(stderr, "usage: agent DIR | agent init TTY UID DIR\n");
		return 2;
	}
	if ((size_t)snprintf(home, sizeof(home), "%s/home", directory) >= sizeof(home)) {
		errno = ENAMETOOLONG;
		die(directory);
	}
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&ended);
	sigaddset(&ended, SIGCHLD);
	sigprocmask(SIG_BLOCK, &ended, NULL);
	children = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
	if (children < 0)
		die("signalfd");
	writeall("ready\n", 6);
	for (;;)
		serve();
}
