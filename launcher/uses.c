#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "about.h"
#include "uses.h"
#include "util.h"

static const char VIEWS[] = "/v1/views/", LAYERS[] = "/v1/layers/", LAUNCHERS[] = "/v1/launchers/";

/* hexadecimal digits of a view's name and a layer's */
enum { VIEW_DIGITS = 32, LAYER_DIGITS = 2 * DIGEST_SIZE };

/* characters of a line before the name of a view's directory, twice what a path can have */
enum { LONGEST = 8192 };

/* of the process whose first is that one: 1 if it is new */
static int
adduse(struct uses *u, uint32_t first, const char *name, size_t digits)
{
	if (strspn(name, "0123456789abcdef") < digits)
		return 0;
	/* a library is mapped in several parts, one after the other */
	if (u->count > first && strncmp(u->list[u->count - 1].name, name, digits) == 0)
		return 0;
	if ((u->count & (u->count - 1)) == 0)
		u->list = xrealloc(u->list, (u->count ? 2 * u->count : 1) * sizeof(*u->list));
	memset(&u->list[u->count], 0, sizeof(*u->list));
	memcpy(u->list[u->count++].name, name, digits);
	return 1;
}

/* a file as a text, its NULs as line ends; NULL if it cannot be read */
static char *
readtext(int directory, const char *path)
{
	char *text = NULL;
	size_t size = 0, room = 0;
	ssize_t n;
	int fd CLEANUP(closefd) = -1;

	fd = openat(directory, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	for (;;) {
		if (size + 1 >= room) {
			room = room ? 2 * room : 1 << 16;
			text = xrealloc(text, room);
		}
		n = read(fd, text + size, room - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	for (room = 0; room < size; room++)
		if (!text[room])
			text[room] = '\n';
	text[size] = '\0';
	return text;
}

/* all layers, or launchers, that a text names by their paths */
static void
addnamesof(struct uses *u, uint32_t first, const char *text, const char *directory)
{
	const char *s = text;

	while ((s = strstr(s, directory))) {
		s += strlen(directory);
		adduse(u, first, s, LAYER_DIGITS);
	}
}

/* all views that a text names by their paths; and what those say they lead to: of another store's nobody else knows.
 * Anybody can name what he made up: a line may be longer than paths are. */
static void
addviewsof(struct uses *u, uint32_t first, const char *text)
{
	const char *s = text, *line;

	while ((s = strstr(s, VIEWS))) {
		for (line = s; line > text && line[-1] != '\n' && s - line < LONGEST; line--)
			;
		line = strchr(line, '/');
		s += strlen(VIEWS);
		if (adduse(u, first, s, VIEW_DIGITS)) {
			char *path CLEANUP(freemem) = xasprintf("%.*s", (int)(s + VIEW_DIGITS - line), line);
			char *about CLEANUP(freemem) = aboutread(AT_FDCWD, path);
			const char *next;

			for (next = about; next && (next = strstr(next, "\nlayer ")); next++)
				adduse(u, first, next + strlen("\nlayer "), LAYER_DIGITS);
		}
	}
}

/* when a process began; now, if it is gone */
static int64_t
beganat(int proc, const char *pid)
{
	char *path CLEANUP(freemem) = xasprintf("%s/stat", pid);
	char *text CLEANUP(freemem) = readtext(proc, path);
	const char *s = text ? strrchr(text, ')') : NULL;
	unsigned long long ticks;
	struct timespec up;
	int field;

	/* the 22nd; behind the name is the third */
	for (field = 2; s && field < 22; field++)
		s = strchr(s + 1, ' ');
	if (!s || sscanf(s, "%llu", &ticks) != 1 || clock_gettime(CLOCK_BOOTTIME, &up) < 0)
		return time(NULL);
	return time(NULL) - up.tv_sec + (int64_t)(ticks / (unsigned long long)sysconf(_SC_CLK_TCK));
}

/* whose a process is; -1: it is gone */
static long
ownerof(int proc, const char *pid)
{
	char *path CLEANUP(freemem) = xasprintf("%s/status", pid);
	char *text CLEANUP(freemem) = readtext(proc, path);
	const char *line = text ? strstr(text, "\nUid:\t") : NULL;

	return line ? strtol(line + strlen("\nUid:\t"), NULL, 10) : -1;
}

static void
addprocess(struct uses *u, int proc, const char *pid, uint32_t owner)
{
	char *started CLEANUP(freemem) = xasprintf("%s/cmdline", pid);
	char *mapped CLEANUP(freemem) = xasprintf("%s/maps", pid);
	char *cmdline CLEANUP(freemem) = readtext(proc, started);
	char *maps CLEANUP(freemem) = readtext(proc, mapped);
	uint32_t first = u->count, i;
	int64_t began;
	long uid;
	int views;

	if (!maps && (errno == EACCES || errno == EPERM)) {
		uid = ownerof(proc, pid);
		began = beganat(proc, pid);
		if (uid >= 0 && (owner == 0 || uid == (long)owner) && began < u->hidden)
			u->hidden = began;
	}
	if (cmdline)
		addviewsof(u, first, cmdline);
	if (maps)
		addviewsof(u, first, maps);
	views = u->count > first;
	if (cmdline) {
		addnamesof(u, first, cmdline, LAYERS);
		/* its own mapping is a copy soon, and without a name */
		addnamesof(u, first, cmdline, LAUNCHERS);
	}
	if (maps) {
		addnamesof(u, first, maps, LAYERS);
		addnamesof(u, first, maps, LAUNCHERS);
	}
	for (i = first; i < u->count; i++)
		u->list[i].lone = !views;
}

static int
compareuses(const void *a, const void *b)
{
	const struct use *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : y->lone - x->lone;
}

int
usesread(struct uses *u, uint32_t owner)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;
	int processes = 0;

	memset(u, 0, sizeof(*u));
	u->hidden = INT64_MAX;
	dir = proc < 0 ? NULL : fdopendir(proc);
	if (!dir)
		return -1;
	while ((d = readdir(dir)))
		if (*d->d_name >= '1' && *d->d_name <= '9') {
			addprocess(u, proc, d->d_name, owner);
			processes++;
		}
	closedir(dir);
	if (u->count)
		qsort(u->list, u->count, sizeof(*u->list), compareuses);
	/* an empty directory where it should be mounted */
	return processes ? 0 : -1;
}

static int
comparename(const void *name, const void *use)
{
	return strcmp(name, ((const struct use *)use)->name);
}

const struct use *
usesfind(const struct uses *u, const char *name)
{
	const struct use *found = u->count ? bsearch(name, u->list, u->count, sizeof(*u->list), comparename) : NULL;

	/* of several the first is lone if one is */
	while (found && found > u->list && strcmp(found[-1].name, name) == 0)
		found--;
	return found;
}

void
usesfree(struct uses *u)
{
	free(u->list);
}
