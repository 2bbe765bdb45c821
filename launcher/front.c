#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "fault.h"
#include "front.h"
#include "host.h"
#include "self.h"
#include "sha256.h"
#include "store.h"
#include "util.h"

static const uint8_t mark[LAUNCHER_MARK_SIZE] = {0x89, 'f', 'p', 'l', 'n', 'c', 'h', '\n'};

/* one has 240 KB */
enum { MAX_LAUNCHER = 1 << 24 };

enum { DAY = 24 * 3600 };

/* when it was last used, and the time of every file in a store: 1980-01-01 */
enum { EPOCH = 315532800 };
static const struct timespec made[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = EPOCH}};

#define TEMPORARY ".tmp-"

static uint64_t
bytesof(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

int
frontmarked(int fd)
{
	uint64_t size = bytesof(fd);
	uint8_t end[sizeof(mark)];

	return size > sizeof(mark) && readat(fd, end, sizeof(end), size - sizeof(end)) == 0 && memcmp(end, mark, sizeof(mark)) == 0;
}

/* a part of a file, and its digest; NULL with errno */
static uint8_t *
readlauncher(int fd, uint64_t offset, uint64_t size, char hex[2 * DIGEST_SIZE + 1])
{
	uint8_t digest[DIGEST_SIZE], *bytes;

	if (!size || size > MAX_LAUNCHER) {
		errno = EFBIG;
		return NULL;
	}
	bytes = xmalloc(size);
	if (readat(fd, bytes, size, offset) < 0) {
		free(bytes);
		return NULL;
	}
	sha256(bytes, size, digest);
	hexof(digest, sizeof(digest), hex);
	return bytes;
}

int
frontcheck(int fd, const char *digest, struct fault *fault)
{
	char hex[2 * DIGEST_SIZE + 1];
	uint8_t *bytes CLEANUP(freemem) = readlauncher(fd, 0, bytesof(fd), hex);

	if (!bytes)
		return fail(fault, STATUS_LAUNCHER, "read the launcher:");
	return strcmp(hex, digest) == 0 ? 0 : fail(fault, STATUS_LAUNCHER, "launcher has the wrong digest");
}

/* the file that is executed, and the directory that was made for it */
static void
removeself(void)
{
	const char *path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
	char *directory CLEANUP(freemem) = path && *path == '/' ? xstrdup(path) : NULL;

	if (!directory || unlink(directory) < 0)
		return;
	*strrchr(directory, '/') = '\0';
	rmdir(directory);
}

/*
 * dash and busybox leave the file they read open where they did not get a number below 10 for it, so that the program would
 * have it, too: it is the first above those of the user, and has a lower number than what was opened here.
 */
static void
closescript(int own, int archive)
{
	struct stat st, script;
	int fd;

	if (own <= 10 || fstat(archive, &st) < 0)
		return;
	for (fd = 10; fd < own; fd++)
		if (fstat(fd, &script) == 0 && script.st_dev == st.st_dev && script.st_ino == st.st_ino) {
			close(fd);
			return;
		}
}

/* that the shell's children have ended is no news for a program that blocks the signal; to set what is set discards it */
static void
forgetchildren(void)
{
	struct sigaction action;

	if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
		sigaction(SIGCHLD, &action, NULL);
}

/* twice a day at most: whoever prunes spares what was used within a whole one. The kernel does it where it is not told not to */
static void
noteuse(int fd)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	struct stat st;

	if (fstat(fd, &st) == 0 && (st.st_atime + DAY / 2 < time(NULL) || st.st_atime > time(NULL) + DAY / 2))
		futimens(fd, now);
}

int
frontbegin(struct front *front, int fd, int *argc, char ***argv, struct fault *fault)
{
	const char *word = *argc > 1 ? (*argv)[1] : "";
	int archive;

	front->unkept = strcmp(word, "once") == 0;
	if (*argc < 3 || (!front->unkept && strcmp(word, "run") != 0)) {
		fail(fault, STATUS_LAUNCHER, "this is a launcher that packed programs have in common, and no program");
		snprintf(fault->hint, sizeof(fault->hint), "start the packed program itself");
		return -1;
	}
	if (front->unkept)
		removeself();
	forgetchildren();
	front->launcher = fd;
	*argc -= 2;
	*argv += 2;
	if (!front->unkept)
		noteuse(fd);
	archive = selfopenpath((*argv)[0], fault);
	if (archive >= 0)
		closescript(fd, archive);
	return archive;
}

static int
writelauncher(int dir, const char *name, const void *bytes, size_t size, mode_t mode)
{
	char temporary[100];
	int fd, failed;

	snprintf(temporary, sizeof(temporary), TEMPORARY "%ld-%.8s", (long)getpid(), name);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	/*
	 * On disk before it has its name: the front takes one that is there, after a crash of the host, too. That its time is
	 * the store's tells the front that nobody has written to it since.
	 */
	failed = writeall(fd, bytes, size) < 0 || fchmod(fd, mode) < 0 || futimens(fd, made) < 0 || fsync(fd) < 0;
	if (close(fd) < 0 || failed || renameat(dir, temporary, dir, name) < 0) {
		unlinkat(dir, temporary, 0);
		return -1;
	}
	return 0;
}

int
launchersopen(const struct store *store)
{
	return store->fd < 0 ? -1 : openat(store->fd, "launchers", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

void
launcherssweep(int launchers)
{
	int fd = launchers < 0 ? -1 : openat(launchers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	struct stat st;

	while (dir && (d = readdir(dir)))
		if (strncmp(d->d_name, TEMPORARY, sizeof(TEMPORARY) - 1) == 0 &&
		    fstatat(launchers, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_ctime + DAY < time(NULL))
			unlinkat(launchers, d->d_name, 0);
	if (dir)
		closedir(dir);
}

int
launchersound(int launchers, const char *name, struct fault *fault)
{
	int fd CLEANUP(closefd) = -1;
	struct stat st, mark_of;

	if (fstatat(launchers, "time", &mark_of, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(mark_of.st_mode) || mark_of.st_mtime != EPOCH)
		return fail(fault, STATUS_LAUNCHER, "the file time beside it is not as it was made");
	/* to be read is not to be used; only its owner may say so */
	fd = openat(launchers, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(launchers, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(fault, STATUS_LAUNCHER, "open it:");
	if (!S_ISREG(st.st_mode) || (st.st_mode & 07777) != 0555)
		return fail(fault, STATUS_LAUNCHER, "it is no file with mode 0555");
	if (frontcheck(fd, name, fault) < 0)
		return -1;
	return st.st_mtime == EPOCH ? 0 : fail(fault, STATUS_LAUNCHER, "its time is not that of the file time beside it");
}

int
launcherremove(int launchers, const char *name)
{
	return unlinkat(launchers, name, 0);
}

void
frontkeep(const struct stores *stores, int fd, uint64_t offset, uint64_t size)
{
	uint32_t order[MAX_STORES];
	const struct store *store = storeswritable(stores, order) ? &stores->list[order[0]] : NULL;
	char hex[2 * DIGEST_SIZE + 1];
	uint8_t *bytes CLEANUP(freemem) = store ? readlauncher(fd, offset, size, hex) : NULL;
	int dir CLEANUP(closefd) = -1;
	struct stat st;
	mode_t mask;

	if (!bytes)
		return;
	mask = umask(0);
	if (mkdirat(store->fd, "launchers", 0755) == 0 || errno == EEXIST)
		dir = launchersopen(store);
	if (dir >= 0 && fstat(dir, &st) == 0 && !distrust(&st)) {
		launcherssweep(dir);
		/* what its time is compared with stands first: a launcher without it is not taken */
		if (writelauncher(dir, "time", "", 0, 0444) == 0)
			writelauncher(dir, hex, bytes, size, 0555);
	}
	umask(mask);
}

void
frontinstall(const struct archive *ar, const struct stores *stores)
{
	struct host host;
	uint32_t i;

	hostbasics(&host);
	for (i = 0; i < ar->launcher_count; i++)
		if (ar->launchers[i].machine == host.machine)
			frontkeep(stores, ar->fd, ar->launchers[i].offset, ar->launchers[i].size);
	hostfree(&host);
}
