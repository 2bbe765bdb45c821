#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fault.h"
#include "object.h"
#include "util.h"

#define TEMPORARY ".tmp-"

/* on a filesystem without flock, what is older than this is taken for left behind */
enum { DAY = 24 * 3600, ABANDONED = DAY };

static void
temporaryname(char *name, size_t size)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(name, size, TEMPORARY "%ld-%llx", (long)getpid(), (unsigned long long)t.tv_sec << 30 | (unsigned long long)t.tv_nsec);
}

int
objectstart(struct object *o, int parent, struct fault *fault)
{
	int tries;

	o->parent = parent;
	o->fd = o->tree = -1;
	for (tries = 0;; tries++) {
		temporaryname(o->name, sizeof(o->name));
		if (mkdirat(parent, o->name, 0700) == 0)
			break;
		if (errno != EEXIST || tries == 100)
			return fail(fault, STATUS_LAUNCHER, "make directory in store:");
	}
	o->fd = openat(parent, o->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (o->fd < 0)
		return fail(fault, STATUS_LAUNCHER, "open directory in store:");
	/* best effort: tells a sweep that somebody is at work here */
	flock(o->fd, LOCK_EX | LOCK_NB);
	if (mkdirat(o->fd, "tree", 0755) < 0)
		return fail(fault, STATUS_LAUNCHER, "make directory in store:");
	o->tree = openat(o->fd, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (o->tree < 0)
		return fail(fault, STATUS_LAUNCHER, "open directory in store:");
	return 0;
}

int
makeparents(int dir, const char *path, const char *before, struct fault *fault)
{
	char part[4096];
	const char *slash;
	size_t n, shared;

	for (shared = 0; path[shared] && path[shared] == before[shared]; shared++)
		;
	for (slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		n = (size_t)(slash - path);
		if (n < shared && before[n] == '/')
			continue;
		if (n >= sizeof(part))
			return fail(fault, STATUS_LAUNCHER, "path is too long: %s", path);
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdirat(dir, part, 0755) < 0 && errno != EEXIST)
			return fail(fault, STATUS_LAUNCHER, "make directory %s in store:", part);
	}
	return 0;
}

int
objectbytecode(struct object *o, const char *dir, struct fault *fault)
{
	char *link CLEANUP(freemem) = *dir ? xasprintf("%s/__pycache__", dir) : xstrdup("__pycache__");
	char *inside CLEANUP(freemem) = *dir ? xasprintf("pyc/%s/", dir) : xstrdup("pyc/");
	char target[8192] = "../", *end = target + 3;
	const char *p;

	/* the directory above is nearly always there */
	if (mkdirat(o->fd, inside, 0755) < 0 && errno != EEXIST && makeparents(o->fd, inside, "", fault) < 0)
		return -1;
	for (p = dir; *p; p++)
		if (p == dir || *p == '/') {
			if ((size_t)(target + sizeof(target) - end) < strlen(inside) + 8)
				return fail(fault, STATUS_LAUNCHER, "path is too long: %s", dir);
			memcpy(end, "../", 3);
			end += 3;
		}
	snprintf(end, (size_t)(target + sizeof(target) - end), "%s", inside);
	target[strlen(target) - 1] = '\0';
	if (symlinkat(target, o->tree, link) < 0 && errno != EEXIST)
		return fail(fault, STATUS_LAUNCHER, "make link in store:");
	return 0;
}

/* take the write permission from every directory of a tree, so that nothing is added to it by accident */
static int
sealdirectory(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), failed = 0;
	struct dirent *d;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -1;
	while ((errno = 0, d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && d->d_type != DT_REG && d->d_type != DT_LNK) {
			/* DT_UNKNOWN: what is no directory cannot be opened as one */
			if (sealdirectory(fd, d->d_name) < 0 && errno != ENOTDIR && errno != ELOOP)
				failed = errno;
		}
	if (errno || fchmod(fd, 0555) < 0)
		failed = errno;
	closedir(dir);
	errno = failed;
	return failed ? -1 : 0;
}

static void
closeobject(struct object *o)
{
	closefd(&o->tree);
	closefd(&o->fd);
	o->tree = o->fd = -1;
}

int
objectpublish(struct object *o, const char *name, const char *boot, int writable, struct fault *fault)
{
	if (!writable && sealdirectory(o->fd, "tree") < 0)
		return fail(fault, STATUS_LAUNCHER, "set modes in store:");
	if (symlinkat(boot, o->fd, "made") < 0 || fchmod(o->fd, 0755) < 0)
		return fail(fault, STATUS_LAUNCHER, "make link in store:");
	if (renameat(o->parent, o->name, o->parent, name) < 0) {
		if (errno != ENOTEMPTY && errno != EEXIST)
			return fail(fault, STATUS_LAUNCHER, "publish in store:");
		/* another launch was first: what it published is as good */
		objectdiscard(o);
		return 0;
	}
	closeobject(o);
	return 0;
}

int
removetree(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;

	if (fd < 0)
		return errno == ENOENT ? 0 : unlinkat(parent, name, 0);
	fchmod(fd, 0700);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -1;
	}
	while ((d = readdir(dir))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (d->d_type == DT_DIR || d->d_type == DT_UNKNOWN || unlinkat(fd, d->d_name, 0) < 0)
			removetree(fd, d->d_name);
	}
	closedir(dir);
	return unlinkat(parent, name, AT_REMOVEDIR);
}

void
objectdiscard(struct object *o)
{
	int saved = errno;

	if (*o->name)
		removetree(o->parent, o->name);
	closeobject(o);
	errno = saved;
}

int
objectmade(int parent, const char *name, char made[64])
{
	char path[128];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/made", name);
	n = readlinkat(parent, path, made, 63);
	made[n < 0 ? 0 : n] = '\0';
	return n < 0 && errno != ENOENT ? errno : 0;
}

int
objectmark(int parent, const char *name, const char *made)
{
	char path[128], temporary[64];

	/* beside the object, where a sweep finds what a killed launch left */
	temporaryname(temporary, sizeof(temporary));
	snprintf(path, sizeof(path), "%s/made", name);
	if (symlinkat(made, parent, temporary) < 0)
		return -1;
	if (renameat(parent, temporary, parent, path) == 0)
		return 0;
	unlinkat(parent, temporary, 0);
	return -1;
}

void
objectused(int parent, const char *name)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	time_t now = time(NULL);
	struct stat st;

	/* half a day: whoever prunes spares what was used within a whole one */
	if (fstatat(parent, name, &st, 0) == 0 && (st.st_mtime + DAY / 2 < now || st.st_mtime > now + DAY / 2))
		utimensat(parent, name, times, 0);
}

static void
removefiles(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlinkat(fd, d->d_name, 0) < 0)
			removefiles(fd, d->d_name);
	closedir(dir);
}

void
objectforget(int parent, const char *name)
{
	char *path CLEANUP(freemem) = xasprintf("%s/pyc", name);

	removefiles(parent, path);
}

int
objectremove(int parent, const char *name)
{
	char temporary[64];

	temporaryname(temporary, sizeof(temporary));
	if (renameat(parent, name, parent, temporary) < 0)
		return errno == ENOENT ? 0 : -1;
	return removetree(parent, temporary);
}

/* whether nobody works in a temporary directory any more, or was about to move a link to its place */
static int
isabandoned(int parent, const char *name)
{
	int fd CLEANUP(closefd) = -1;
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISLNK(st.st_mode))
		return st.st_mtime + 60 < time(NULL);
	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		/* made a moment ago, it may not be locked yet */
		return st.st_mtime + 60 < time(NULL);
	return errno != EWOULDBLOCK && st.st_mtime + ABANDONED < time(NULL);
}

void
objectsweep(int parent)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (strncmp(d->d_name, TEMPORARY, sizeof(TEMPORARY) - 1) == 0 && isabandoned(parent, d->d_name))
			removetree(parent, d->d_name);
	closedir(dir);
}

int
objectremovestale(int parent, const char *name, const char *made)
{
	char now[64], temporary[64];

	if (!isnamed(parent, name))
		return errno == ENOENT ? 0 : -1;
	/* whatever is published has its made from the start */
	objectmade(parent, name, now);
	if (strcmp(now, made) != 0)
		return *now ? 0 : -1;
	temporaryname(temporary, sizeof(temporary));
	if (renameat(parent, name, parent, temporary) < 0)
		return errno == ENOENT ? 0 : -1;
	/* it is out of the way; a sweep finds what stays of it */
	removetree(parent, temporary);
	return 0;
}
