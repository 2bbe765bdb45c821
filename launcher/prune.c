#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "about.h"
#include "front.h"
#include "object.h"
#include "prune.h"
#include "store.h"
#include "uses.h"
#include "util.h"

/* no launch is so slow, and no other store's view so new, that it would use what nobody used for so long */
enum { DAY = 24 * 3600 };

enum { DEFAULT_DAYS = 30 };
static const uint64_t DEFAULT_SIZE = UINT64_C(10) << 30;

/* a layer of the store */
struct part {
	char name[2 * DIGEST_SIZE + 1];
	uint64_t size;
	uint64_t counted;       /* of it in the size of all */
	time_t used;
	uint32_t views;         /* that lead to it */
	int gone;
	const struct use *use;
};

/* a view of the store */
struct whole {
	char name[33];
	time_t used;
	int installed;
	int spared;             /* installed, in use, or used today */
	struct part **parts;    /* those in this store */
	uint32_t count;
};

/* a launcher that the store keeps for fronts */
struct kept {
	char name[2 * DIGEST_SIZE + 1];
	uint64_t size;
	time_t used;
	const struct use *use;
};

struct contents {
	struct store *store;
	time_t now;
	int64_t hidden;         /* when the oldest process began of which nobody knows what it uses */
	struct part *parts;     /* by name */
	uint32_t part_count;
	struct whole *wholes;   /* the longest unused first */
	uint32_t whole_count;
	int launchers;          /* the directory of those, or -1 */
	struct kept *kept;
	uint32_t kept_count;
	uint64_t size;
	int unknown;            /* a view does not say what it leads to: layers stay */
	int dry;
	struct pruned *out;
};

void
limitsread(const struct store *s, struct limits *limits)
{
	int fd CLEANUP(closefd) = openat(s->fd, "limits", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[200] = "";
	const char *line;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t days;

	*limits = (struct limits){DEFAULT_SIZE, DEFAULT_DAYS};
	for (line = n > 0 ? text : NULL; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "size %" SCNu64, &limits->size) != 1 && sscanf(line, "days %" SCNu64, &days) == 1)
			limits->days = days < MOST_DAYS ? (uint32_t)days : MOST_DAYS;
	}
}

/* every object of a directory, by its name */
static char **
listnames(int parent, size_t digits, uint32_t *count)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char **names = NULL;
	struct dirent *d;

	*count = 0;
	while (dir && (d = readdir(dir)))
		if (strlen(d->d_name) == digits && strspn(d->d_name, "0123456789abcdef") == digits) {
			names = xrealloc(names, (*count + 1) * sizeof(*names));
			names[(*count)++] = xstrdup(d->d_name);
		}
	if (dir)
		closedir(dir);
	return names;
}

static time_t
lastused(int parent, const char *name)
{
	struct stat st;

	return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mtime : time(NULL);
}

/* the same; a time that is still to come, of a clock that was wrong, becomes today's */
static time_t
lastusedby(int parent, const char *name, time_t now)
{
	if (lastused(parent, name) > now + DAY)
		objectused(parent, name);
	return lastused(parent, name);
}

static int
comparepart(const void *a, const void *b)
{
	return strcmp(((const struct part *)a)->name, ((const struct part *)b)->name);
}

static void
readparts(struct contents *c)
{
	char **names = listnames(c->store->layers, 2 * DIGEST_SIZE, &c->part_count), path[100], text[32];
	struct part *p;
	uint32_t i;
	ssize_t n;

	c->parts = xcalloc(c->part_count + 1, sizeof(*c->parts));
	for (i = 0; i < c->part_count; i++) {
		p = &c->parts[i];
		strcpy(p->name, names[i]);
		snprintf(path, sizeof(path), "%s/size", p->name);
		n = readlinkat(c->store->layers, path, text, sizeof(text) - 1);
		text[n < 0 ? 0 : n] = '\0';
		p->size = strtoull(text, NULL, 10);
		p->used = lastusedby(c->store->layers, p->name, c->now);
		p->counted = p->size;
		c->size += p->size;
		free(names[i]);
	}
	free(names);
	if (c->part_count)
		qsort(c->parts, c->part_count, sizeof(*c->parts), comparepart);
}

/* the layers that a view says it leads to, as far as they are here; -1: it does not say */
static int
readabout(struct contents *c, struct whole *w)
{
	char *about CLEANUP(freemem) = aboutread(c->store->views, w->name);
	struct part key, *p;
	const char *line;

	for (line = about; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "layer ", 6) != 0)
			continue;
		snprintf(key.name, sizeof(key.name), "%.64s", line + 6);
		p = bsearch(&key, c->parts, c->part_count, sizeof(*c->parts), comparepart);
		if (!p)
			continue;
		w->parts = xrealloc(w->parts, (w->count + 1) * sizeof(struct part *));
		w->parts[w->count++] = p;
		p->views++;
	}
	return about ? 0 : -1;
}

static int
lookatkept(const struct contents *c, struct kept *k)
{
	struct stat st;

	if (fstatat(c->launchers, k->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	k->size = (uint64_t)st.st_size;
	k->used = st.st_atime;
	return 0;
}

static void
readkept(struct contents *c)
{
	const struct timespec today[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	char **names;
	uint32_t i;

	c->launchers = launchersopen(c->store);
	if (c->launchers < 0)
		return;
	names = listnames(c->launchers, 2 * DIGEST_SIZE, &c->kept_count);
	c->kept = xcalloc(c->kept_count + 1, sizeof(*c->kept));
	for (i = 0; i < c->kept_count; i++) {
		strcpy(c->kept[i].name, names[i]);
		if (lookatkept(c, &c->kept[i]) < 0)
			c->kept[i].used = c->now;
		/* as of a clock that was wrong */
		if (c->kept[i].used > c->now + DAY)
			utimensat(c->launchers, c->kept[i].name, today, AT_SYMLINK_NOFOLLOW);
		free(names[i]);
	}
	free(names);
}

static void
leaveout(struct contents *c, const struct whole *w)
{
	uint32_t i;

	for (i = 0; i < w->count; i++) {
		c->size -= w->parts[i]->counted;
		w->parts[i]->counted = 0;
	}
}

static int
comparewhole(const void *a, const void *b)
{
	const struct whole *x = a, *y = b;

	return x->used == y->used ? strcmp(x->name, y->name) : x->used < y->used ? -1 : 1;
}

static void
readwholes(struct contents *c, int installed)
{
	char **names = listnames(c->store->views, 32, &c->whole_count), path[100];
	struct whole *w;
	uint32_t i;

	c->wholes = xcalloc(c->whole_count + 1, sizeof(*c->wholes));
	for (i = 0; i < c->whole_count; i++) {
		w = &c->wholes[i];
		strcpy(w->name, names[i]);
		snprintf(path, sizeof(path), "%s/installed", w->name);
		w->used = lastusedby(c->store->views, w->name, c->now);
		w->installed = isnamed(c->store->views, path);
		w->spared = w->used + DAY > c->now || (!installed && w->installed);
		if (readabout(c, w) < 0)
			c->unknown = 1;
		free(names[i]);
	}
	free(names);
	/* what stays whatever the limit leaves its room to the rest */
	for (i = 0; i < c->whole_count && !installed; i++)
		if (c->wholes[i].installed)
			leaveout(c, &c->wholes[i]);
	if (c->whole_count)
		qsort(c->wholes, c->whole_count, sizeof(*c->wholes), comparewhole);
}

/* whether no view leads to a layer any more */
static int
isorphan(const struct contents *c, const struct part *p)
{
	return !c->unknown && !p->gone && !p->views && !p->use && p->used + DAY < c->now && p->used + DAY < c->hidden;
}

static int
isbeyond(const struct contents *c, const struct whole *w, const struct limits *limits)
{
	return !w->spared && (w->used + (time_t)limits->days * DAY < c->now || (!c->unknown && c->size > limits->size));
}

/* whether nobody started anything with a launcher for long; it is not asked what for: it is taken out of an archive again */
static int
isidle(const struct contents *c, const struct kept *k, const struct limits *limits)
{
	return !k->use && k->used + (time_t)limits->days * DAY < c->now && k->used + DAY < c->now && k->used + DAY < c->hidden;
}

/* whether anything may go, for all that is known before the processes are looked at, which takes longer */
static int
isworth(const struct contents *c, const struct limits *limits)
{
	uint32_t i;

	for (i = 0; i < c->part_count; i++)
		if (isorphan(c, &c->parts[i]))
			return 1;
	for (i = 0; i < c->whole_count; i++)
		if (isbeyond(c, &c->wholes[i], limits))
			return 1;
	for (i = 0; i < c->kept_count; i++)
		if (isidle(c, &c->kept[i], limits))
			return 1;
	return 0;
}

static void
noteuses(struct contents *c, const struct uses *uses)
{
	struct whole *w;
	uint32_t i, k;

	/* what a process that hides uses was used when it began */
	c->hidden = uses->hidden;
	for (i = 0; i < c->part_count; i++)
		c->parts[i].use = usesfind(uses, c->parts[i].name);
	for (i = 0; i < c->kept_count; i++)
		c->kept[i].use = usesfind(uses, c->kept[i].name);
	for (i = 0; i < c->whole_count; i++) {
		w = &c->wholes[i];
		w->spared |= usesfind(uses, w->name) != NULL || w->used + DAY > c->hidden;
		for (k = 0; k < w->count; k++)
			w->spared |= w->parts[k]->use && w->parts[k]->use->lone;
	}
}

static void
tell(struct contents *c, const char *kind, const char *name)
{
	char *list = xasprintf("%s%s %s\n", c->out->list, kind, name);

	free(c->out->list);
	c->out->list = list;
}

/* move an object away unless it was used a moment ago, and tell; 0: it is gone, or would be */
static int
removeone(struct contents *c, int parent, const char *kind, const char *name, time_t used)
{
	/* a launch says that it uses a view before it does: what has not changed after all processes were looked at is unused */
	if (lastused(parent, name) != used || (!c->dry && objectremove(parent, name) < 0))
		return -1;
	tell(c, kind, name);
	return 0;
}

static void
removekept(struct contents *c, const struct kept *k)
{
	struct kept now = *k;

	if (lookatkept(c, &now) < 0 || now.used != k->used || (!c->dry && launcherremove(c->launchers, k->name) < 0))
		return;
	tell(c, "launcher", k->name);
	c->out->launchers++;
	c->out->size += k->size;
}

static void
removepart(struct contents *c, struct part *p)
{
	if (!isorphan(c, p))
		return;
	if (removeone(c, c->store->layers, "layer", p->name, p->used) < 0)
		return;
	p->gone = 1;
	c->size -= p->counted;
	c->out->layers++;
	c->out->size += p->size;
}

static void
removewhole(struct contents *c, const struct whole *w)
{
	uint32_t i;

	if (removeone(c, c->store->views, "view", w->name, w->used) < 0)
		return;
	c->out->views++;
	for (i = 0; i < w->count; i++) {
		w->parts[i]->views--;
		removepart(c, w->parts[i]);
	}
}

static void
freecontents(struct contents *c)
{
	uint32_t i;

	for (i = 0; i < c->whole_count; i++)
		free(c->wholes[i].parts);
	free(c->wholes);
	free(c->parts);
	free(c->kept);
	closefd(&c->launchers);
}

static uint32_t
ownerof(const struct store *s)
{
	struct stat st;

	return fstat(s->fd, &st) == 0 ? st.st_uid : 0;
}

int
prune(struct store *s, const struct limits *limits, int installed, int dry, struct pruned *out)
{
	struct contents c = {.store = s, .now = time(NULL), .hidden = INT64_MAX, .dry = dry, .out = out};
	struct uses uses = {0};
	int failed = 0;
	uint32_t i;

	*out = (struct pruned){.list = xstrdup("")};
	readparts(&c);
	readwholes(&c, installed);
	readkept(&c);
	if (isworth(&c, limits) && (failed = usesread(&uses, ownerof(s))) == 0) {
		noteuses(&c, &uses);
		for (i = 0; i < c.part_count; i++)
			removepart(&c, &c.parts[i]);
		for (i = 0; i < c.whole_count; i++)
			if (isbeyond(&c, &c.wholes[i], limits))
				removewhole(&c, &c.wholes[i]);
		for (i = 0; i < c.kept_count; i++)
			if (isidle(&c, &c.kept[i], limits))
				removekept(&c, &c.kept[i]);
	}
	freecontents(&c);
	usesfree(&uses);
	return failed;
}

void
prunedaily(struct store *s)
{
	int fd CLEANUP(closefd) = -1, new;
	time_t now = time(NULL);
	struct limits limits;
	struct pruned pruned;
	struct stat st;

	/* what others run from root's store they cannot note there */
	if (s->only_existing || (ownerof(s) == 0 && (stat(s->base, &st) < 0 || st.st_mode & 001)))
		return;
	new = fstatat(s->fd, "pruned", &st, AT_SYMLINK_NOFOLLOW) < 0;
	if (!new && st.st_mtime + DAY > now && st.st_mtime < now + DAY)
		return;
	fd = openat(s->fd, "pruned", O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	/* nothing in a new store is a day old */
	if (fd < 0 || futimens(fd, NULL) < 0 || new)
		return;
	limitsread(s, &limits);
	prune(s, &limits, 0, 0, &pruned);
	free(pruned.list);
}
