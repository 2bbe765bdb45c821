#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "fatpar.h"
#include "uses.h"
#include "util.h"

static const char VIEWS[] = "/v1/views/", LAYERS[] = "/v1/layers/";

/* hexadecimal digits of a view's name and a layer's */
enum { VIEW_DIGITS = 32, LAYER_DIGITS = 2 * DIGEST_SIZE };

static void
adduse(struct uses *u, const char *name, size_t digits)
{
	if (strspn(name, "0123456789abcdef") < digits)
		return;
	/* a library is mapped in several parts, one after the other */
	if (u->count && strncmp(u->list[u->count - 1].name, name, digits) == 0)
		return;
	if ((u->count & (u->count - 1)) == 0)
		u->list = xrealloc(u->list, (u->count ? 2 * u->count : 1) * sizeof(*u->list));
	memset(&u->list[u->count], 0, sizeof(*u->list));
	memcpy(u->list[u->count++].name, name, digits);
}

/* all that follows a directory's name in a text */
static void
addnames(struct uses *u, const char *text, const char *directory, size_t digits)
{
	const char *s = text;

	while ((s = strstr(s, directory))) {
		s += strlen(directory);
		adduse(u, s, digits);
	}
}

/* a file of /proc as a text, its NULs as line ends; NULL if it cannot be read */
static char *
readtext(int proc, const char *pid, const char *name)
{
	char path[300];
	char *text = NULL;
	size_t size = 0, room = 0;
	ssize_t n;
	int fd CLEANUP(closefd) = -1;

	snprintf(path, sizeof(path), "%s/%s", pid, name);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
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

static void
addprocess(struct uses *u, int proc, const char *pid)
{
	static const char *const files[] = {"cmdline", "maps"};
	uint32_t first = u->count, after, i;

	for (i = 0; i < COUNTOF(files); i++) {
		char *text CLEANUP(freemem) = readtext(proc, pid, files[i]);

		if (text)
			addnames(u, text, VIEWS, VIEW_DIGITS);
	}
	after = u->count;
	for (i = 0; i < COUNTOF(files); i++) {
		char *text CLEANUP(freemem) = readtext(proc, pid, files[i]);

		if (text)
			addnames(u, text, LAYERS, LAYER_DIGITS);
	}
	for (i = after; i < u->count; i++)
		u->list[i].lone = after == first;
}

static int
compareuses(const void *a, const void *b)
{
	const struct use *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : y->lone - x->lone;
}

int
usesread(struct uses *u)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;
	int processes = 0;

	memset(u, 0, sizeof(*u));
	dir = proc < 0 ? NULL : fdopendir(proc);
	if (!dir)
		return -1;
	while ((d = readdir(dir)))
		if (*d->d_name >= '1' && *d->d_name <= '9') {
			addprocess(u, proc, d->d_name);
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
