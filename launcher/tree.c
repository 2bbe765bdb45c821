#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fault.h"
#include "sha256.h"
#include "tree.h"
#include "util.h"

void
treestart(struct tree *t)
{
	sha256start(&t->sum);
}

static void
addpath(struct tree *t, char kind, const char *path)
{
	sha256add(&t->sum, &kind, 1);
	sha256add(&t->sum, path, strlen(path) + 1);
}

void
treefile(struct tree *t, const char *path, int executable, uint64_t size, const uint8_t digest[32])
{
	addpath(t, executable ? 'x' : 'f', path);
	sha256add(&t->sum, &size, sizeof(size));
	sha256add(&t->sum, digest, 32);
}

void
treelink(struct tree *t, const char *path, const char *target)
{
	addpath(t, 'l', path);
	sha256add(&t->sum, target, strlen(target) + 1);
}

void
treedir(struct tree *t, const char *path)
{
	addpath(t, 'd', path);
}

void
treeend(struct tree *t, uint8_t digest[32])
{
	sha256end(&t->sum, digest);
}

/* paths of a tree on disk, to be put in order before they are read; an empty directory's has a slash at the end */
struct paths {
	char **paths;
	size_t count, room;
};

static void
addname(struct paths *p, const char *prefix, const char *name)
{
	if (p->count == p->room) {
		p->room = p->room ? 2 * p->room : 256;
		p->paths = xrealloc(p->paths, p->room * sizeof(*p->paths));
	}
	p->paths[p->count++] = *prefix ? xasprintf("%s/%s", prefix, name) : xstrdup(name);
}

static int
isbytecode(const char *name, int dir)
{
	struct stat st;

	return strcmp(name, "__pycache__") == 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

/* collect what is no directory, and empty directories with a slash at the end */
static int
collect(int parent, const char *name, const char *prefix, struct paths *out, struct fault *fault)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), empty = 1, type;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return fail(fault, STATUS_LAUNCHER, "open directory %s:", *prefix ? prefix : name);
	while ((errno = 0, d = readdir(dir))) {
		char *path CLEANUP(freemem) = NULL;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || isbytecode(d->d_name, dirfd(dir)))
			continue;
		empty = 0;
		type = d->d_type;
		if (type == DT_UNKNOWN && fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = S_ISDIR(st.st_mode) ? DT_DIR : DT_REG;
		if (type != DT_DIR) {
			addname(out, prefix, d->d_name);
			continue;
		}
		path = *prefix ? xasprintf("%s/%s", prefix, d->d_name) : xstrdup(d->d_name);
		if (collect(dirfd(dir), d->d_name, path, out, fault) < 0) {
			closedir(dir);
			return -1;
		}
	}
	/* a list that breaks off must not pass for all there is */
	if (errno) {
		fail(fault, STATUS_LAUNCHER, "read directory %s:", *prefix ? prefix : name);
		closedir(dir);
		return -1;
	}
	closedir(dir);
	if (empty && *prefix)
		addname(out, prefix, "");
	return 0;
}

/* in the order of the paths themselves: the slash at the end of an empty directory does not count */
static int
comparepaths(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	for (; *x && *x == *y; x++, y++)
		;
	return (*x == '/' && !x[1] ? 0 : (unsigned char)*x) - (*y == '/' && !y[1] ? 0 : (unsigned char)*y);
}

static int
addfile(struct tree *t, int dir, const char *path, const struct stat *st, struct fault *fault)
{
	int fd CLEANUP(closefd) = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	static char buf[1 << 16];
	struct sha256 sum;
	uint8_t digest[32];
	uint64_t size = 0;
	ssize_t n;

	if (fd < 0)
		return fail(fault, STATUS_LAUNCHER, "open %s:", path);
	sha256start(&sum);
	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(fault, STATUS_LAUNCHER, "read %s:", path);
		sha256add(&sum, buf, (size_t)n);
		size += (uint64_t)n;
	}
	sha256end(&sum, digest);
	treefile(t, path, (st->st_mode & 0111) != 0, size, digest);
	return 0;
}

static int
addpathof(struct tree *t, int dir, char *path, struct fault *fault)
{
	char target[PATH_MAX];
	struct stat st;
	size_t n = strlen(path);
	ssize_t k;

	if (n && path[n - 1] == '/') {
		path[n - 1] = '\0';
		treedir(t, path);
		return 0;
	}
	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(fault, STATUS_LAUNCHER, "stat %s:", path);
	if (S_ISREG(st.st_mode))
		return addfile(t, dir, path, &st, fault);
	if (!S_ISLNK(st.st_mode))
		return fail(fault, STATUS_LAUNCHER, "%s is neither a file, a directory nor a link", path);
	k = readlinkat(dir, path, target, sizeof(target) - 1);
	if (k < 0)
		return fail(fault, STATUS_LAUNCHER, "read link %s:", path);
	target[k] = '\0';
	treelink(t, path, target);
	return 0;
}

int
treeread(int dir, uint8_t digest[32], struct fault *fault)
{
	struct paths p = {0};
	struct tree t;
	size_t i;
	int failed;

	failed = collect(dir, ".", "", &p, fault);
	if (p.count)
		qsort(p.paths, p.count, sizeof(*p.paths), comparepaths);
	treestart(&t);
	for (i = 0; i < p.count; i++) {
		if (!failed)
			failed = addpathof(&t, dir, p.paths[i], fault);
		free(p.paths[i]);
	}
	free(p.paths);
	treeend(&t, digest);
	return failed;
}
