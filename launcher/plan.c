#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "host.h"
#include "plan.h"
#include "sha256.h"
#include "store.h"
#include "util.h"

#define HEAD "fatpar plan 1"

/* a plan is a few KB; what is larger is none */
enum { MAX_PLAN = 1 << 20, DAY = 24 * 3600 };

/* the digest at the end, in hexadecimal and with its NUL */
enum { SEAL = 2 * DIGEST_SIZE + 1 };

/* a tool's kind, by its place */
static const char TOOL_LETTERS[] = "?txo";

static void
addstring(struct sha256 *sum, const char *s)
{
	sha256add(sum, s, strlen(s) + 1);
}

void
planname(const struct archive *ar, const struct host *host, const char *boot, int path, char name[33])
{
	const char *value = path ? getenv("PATH") : NULL, *named = getenv("FATPAR_STORE");
	uint32_t user = (uint32_t)geteuid();
	uint64_t root[2] = {0, 0};
	struct sha256 sum;
	struct stat st;
	uint8_t digest[32];

	/* another root directory, as in a container that shares the store, is another host */
	if (stat("/", &st) == 0) {
		root[0] = st.st_dev;
		root[1] = st.st_ino;
	}
	sha256start(&sum);
	addstring(&sum, HEAD);
	sha256add(&sum, ar->trailer.id, sizeof(ar->trailer.id));
	sha256add(&sum, &user, sizeof(user));
	sha256add(&sum, root, sizeof(root));
	sha256add(&sum, &host->machine, sizeof(host->machine));
	sha256add(&sum, &host->cpu_features, sizeof(host->cpu_features));
	addstring(&sum, host->release);
	addstring(&sum, boot);
	/* who names another store wants it used, not a plan that leads to the old one */
	addstring(&sum, named ? named : "");
	if (path)
		addstring(&sum, value ? value : "");
	sha256end(&sum, digest);
	hexof(digest, 16, name);
}

/* the file: strings, each with its NUL; the last is the digest, in hexadecimal, of all before it */
struct reader {
	char *at, *end;
};

static char *
next(struct reader *r)
{
	char *s = r->at, *nul = s < r->end ? memchr(s, '\0', (size_t)(r->end - s)) : NULL;

	if (!nul)
		return NULL;
	r->at = nul + 1;
	return s;
}

/*
 * Open a plan, step by step and through no link: a plan decides what is executed, so nobody else may be able to put one
 * where it is looked for, or a FIFO that would never be read to its end.
 */
static int
openplan(const char *base, const char *name, struct stat *st)
{
	const char *const steps[] = {base, "v1", "plans", name};
	int fd = AT_FDCWD, next;
	size_t i;

	for (i = 0; i < COUNTOF(steps); i++) {
		next = openat(fd, steps[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (i < 3 ? O_DIRECTORY : 0));
		if (fd >= 0)
			close(fd);
		fd = next;
		if (fd < 0)
			return -1;
		if (fstat(fd, st) < 0 || distrust(st)) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

static char *
readfile(const char *base, const char *name, size_t *size)
{
	struct stat st;
	int fd CLEANUP(closefd) = openplan(base, name, &st);
	char *text;

	if (fd < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_PLAN || st.st_size < SEAL)
		return NULL;
	if (st.st_mtime + PLAN_DAYS * DAY < time(NULL) || st.st_mtime > time(NULL) + DAY)
		return NULL;
	text = xmalloc((size_t)st.st_size);
	*size = (size_t)st.st_size;
	if (read(fd, text, *size) == st.st_size)
		return text;
	free(text);
	return NULL;
}

static int
iswhole(const char *text, size_t size)
{
	size_t body = size - SEAL;
	char hex[SEAL];
	uint8_t digest[DIGEST_SIZE];

	sha256(text, body, digest);
	hexof(digest, sizeof(digest), hex);
	return memcmp(text + body, hex, sizeof(hex)) == 0;
}

static int
parsewatch(struct watch *w, const char *numbers, char *path)
{
	w->path = path;
	return path && sscanf(numbers, "%d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64, &w->present, &w->device,
	                      &w->inode, &w->size, &w->mtime, &w->ctime) == 6;
}

/* the strings say what they are with their first letter; the digest has vouched for their order */
static int
parse(struct plan *p, struct reader *r)
{
	char *s = next(r), *rest;

	if (!s || strcmp(s, HEAD) != 0)
		return 0;
	while ((s = next(r)) && *s) {
		rest = s + 1;
		switch (*s) {
		case 'v':
			p->view = rest;
			break;
		case 'p':
			p->python = rest;
			break;
		case 's':
			p->slice = rest;
			break;
		case 'f':
			p->flags = xrealloc(p->flags, (p->flag_count + 1) * sizeof(*p->flags));
			p->flags[p->flag_count++] = rest;
			break;
		case 't':
		case 'x':
		case 'o':
			p->tools = xrealloc(p->tools, (p->tool_count + 1) * sizeof(*p->tools));
			p->tools[p->tool_count] = (struct plan_tool){rest, (uint32_t)(strchr(TOOL_LETTERS, *s) - TOOL_LETTERS), next(r)};
			if (!p->tools[p->tool_count++].target)
				return 0;
			break;
		case 'w':
			p->watches = xrealloc(p->watches, (p->watch_count + 1) * sizeof(*p->watches));
			if (!parsewatch(&p->watches[p->watch_count++], rest, next(r)))
				return 0;
			break;
		default:
			return 0;
		}
	}
	return s && p->view && p->python && p->slice && p->tool_count;
}

int
planparse(struct plan *p, char *text, size_t size)
{
	struct reader r = {text, text + size};

	memset(p, 0, sizeof(*p));
	if (size < SEAL || !iswhole(text, size))
		return 0;
	r.end -= SEAL;
	return parse(p, &r);
}

int
planread(struct plan *p, const char *base, const char *name)
{
	size_t size;
	char *text = readfile(base, name, &size);
	uint32_t i;

	/* the strings are used until execve: they are never freed */
	if (!text || !planparse(p, text, size))
		return 0;
	for (i = 0; i < p->watch_count; i++)
		if (!watchholds(&p->watches[i]))
			return 0;
	return 1;
}

struct writer {
	char *text;
	size_t size;
};

static void put(struct writer *, const char *, ...) PRINTFLIKE(2, 3);

static void
put(struct writer *w, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	w->text = xrealloc(w->text, w->size + (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(w->text + w->size, (size_t)n + 1, fmt, ap);
	va_end(ap);
	w->size += (size_t)n + 1;
}

static void
putplan(struct writer *w, const struct plan *p)
{
	char hex[2 * DIGEST_SIZE + 1];
	uint8_t digest[DIGEST_SIZE];
	const struct watch *k;
	uint32_t i;

	put(w, "%s", HEAD);
	put(w, "v%s", p->view);
	put(w, "p%s", p->python);
	put(w, "s%s", p->slice);
	for (i = 0; i < p->flag_count; i++)
		put(w, "f%s", p->flags[i]);
	for (i = 0; i < p->tool_count; i++) {
		put(w, "%c%s", TOOL_LETTERS[p->tools[i].kind], p->tools[i].name);
		put(w, "%s", p->tools[i].target);
	}
	for (i = 0; i < p->watch_count; i++) {
		k = &p->watches[i];
		put(w, "w%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64, k->present, k->device, k->inode, k->size, k->mtime,
		    k->ctime);
		put(w, "%s", k->path);
	}
	put(w, "%s", "");
	sha256(w->text, w->size, digest);
	hexof(digest, sizeof(digest), hex);
	put(w, "%s", hex);
}

void
planwrite(const struct plan *p, int plans, const char *name)
{
	struct writer w = {0};
	char temporary[64];
	ssize_t n;
	int fd;

	putplan(&w, p);
	snprintf(temporary, sizeof(temporary), ".tmp-%ld-%.8s", (long)getpid(), name);
	fd = openat(plans, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0) {
		n = write(fd, w.text, w.size);
		if (close(fd) < 0 || n < 0 || (size_t)n != w.size || renameat(plans, temporary, plans, name) < 0)
			unlinkat(plans, temporary, 0);
	}
	free(w.text);
}

void
planssweep(int plans)
{
	int fd = openat(plans, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	time_t now = time(NULL);
	struct dirent *d;
	struct stat st;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return;
	while ((d = readdir(dir)))
		if (fstatat(plans, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_mtime + (d->d_name[0] == '.' ? DAY : PLAN_DAYS * DAY) < now)
			unlinkat(plans, d->d_name, 0);
	closedir(dir);
}
