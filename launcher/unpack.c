#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "fault.h"
#include "object.h"
#include "sha256.h"
#include "stock.h"
#include "tree.h"
#include "unpack.h"
#include "util.h"

/* smaller files are written once more: a link is not worth the care that one inode for two takes */
enum { WORTH_A_LINK = 65536 };

/* every file's time: 1980-01-01, the oldest a zip file knows; bytecode is checked against it */
enum { FILE_TIME = 315532800 };

/* a layer on its way: what its files' digests turn out to be */
struct progress {
	const struct target *target;
	const struct layer *layer;
	uint8_t (*digests)[DIGEST_SIZE];
};

/* what could not be done to an entry; the layer's name tells one __init__.py from another, and extract's directory */
static int
failat(const struct archive *ar, const struct layer *l, const struct entry *e, const char *doing, struct fault *fault)
{
	return fail(fault, STATUS_LAUNCHER, "%s %s/%s:", doing, archivestring(ar, l->name), archivestring(ar, e->path));
}

/* files in the order in which their bytes stand in the archive; those of the same bytes side by side, by kind */
struct order {
	uint32_t target;
	uint32_t entry;
	uint32_t blob;
	uint32_t offset;
	uint32_t content;
	uint32_t kind;
};

/* what threads unpack together; what changes is the stock's, under its mutex, and the digests, each one thread's */
struct job {
	struct archive *archive;
	const struct progress *all;
	struct order *order;
	size_t count;
	struct stock stock;
	size_t left;            /* files that no thread has taken */
	struct fault *fault;    /* the first one */
	int error;
};

struct worker {
	struct job *job;
	struct hand hand;
	pthread_t thread;
};

/*
 * What is written at once can become one folio of the page cache, of which a process that touches a page may get all:
 * libraries that were written in one piece take more of each process's memory.
 */
enum { PIECE = 1 << 14 };

/*
 * A content's bytes: counted into the digest and, with a descriptor, written; 1 with errno if they cannot be. *lot is
 * where they begin, and then where they end.
 */
static int
writecontent(struct worker *w, uint32_t index, struct lot **lot, int again, int fd, uint8_t digest[DIGEST_SIZE])
{
	struct stock *stock = &w->job->stock;
	const struct content *c = &w->job->archive->contents[index];
	uint32_t blob = c->blob, offset = c->offset;
	uint64_t left = c->size;
	struct sha256 sum;
	size_t n, at, piece;

	sha256start(&sum);
	for (; left; blob++, offset = 0, left -= n) {
		if (!*lot || (*lot)->blob != blob) {
			pthread_mutex_lock(&stock->mutex);
			if (*lot)
				stockrelease(stock, *lot);
			/* the blob it begins in is counted with the files; one that went on elsewhere before this one left it */
			*lot = stocktake(stock, &w->hand, blob, again || blob == c->blob);
			pthread_mutex_unlock(&stock->mutex);
			if (!*lot)
				return -1;
		}
		n = w->job->archive->blobs[blob].raw_size - offset;
		if (n > left)
			n = (size_t)left;
		for (at = 0; at < n; at += piece) {
			piece = n - at < PIECE ? n - at : PIECE;
			sha256add(&sum, (*lot)->plain + offset + at, piece);
			if (fd >= 0 && writeall(fd, (*lot)->plain + offset + at, piece) < 0)
				return 1;
		}
	}
	sha256end(&sum, digest);
	return 0;
}

static mode_t
modeof(const struct layer *l, const struct entry *e)
{
	if (l->kind == LAYER_BYTECODE) /* interpreters replace it when it does not suit them */
		return 0644;
	return e->kind == ENTRY_EXEC ? 0555 : 0444;
}

static int
writefile(struct worker *w, const struct order *o, struct lot **lot, int again)
{
	const struct progress *p = &w->job->all[o->target];
	const struct entry *e = &w->job->archive->entries[p->layer->first_entry + o->entry];
	const char *path = archivestring(w->job->archive, e->path);
	const struct timespec times[2] = {{.tv_sec = FILE_TIME}, {.tv_sec = FILE_TIME}};
	int fd CLEANUP(closefd) = -1, failed;

	if (p->target->dir >= 0) {
		fd = openat(p->target->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, modeof(p->layer, e));
		if (fd < 0)
			return failat(w->job->archive, p->layer, e, "write", &w->hand.fault);
	}
	failed = writecontent(w, e->value, lot, again, fd, p->digests[o->entry]);
	if (failed)
		return failed < 0 ? -1 : failat(w->job->archive, p->layer, e, "write", &w->hand.fault);
	if (fd >= 0 && futimens(fd, times) < 0)
		return failat(w->job->archive, p->layer, e, "set time of", &w->hand.fault);
	return 0;
}

static int
compareorder(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->blob != y->blob)
		return x->blob < y->blob ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	if (x->content != y->content)
		return x->content < y->content ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->target != y->target)
		return x->target < y->target ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static struct order *
orderof(const struct archive *ar, const struct progress *all, uint32_t count, size_t *n)
{
	struct order *order;
	const struct entry *e;
	uint32_t i, k;
	size_t room = 0;

	for (i = 0; i < count; i++)
		room += all[i].layer->entry_count;
	order = xcalloc(room, sizeof(*order));
	for (i = 0, *n = 0; i < count; i++)
		for (k = 0; k < all[i].layer->entry_count; k++) {
			e = &ar->entries[all[i].layer->first_entry + k];
			if (e->kind == ENTRY_FILE || e->kind == ENTRY_EXEC)
				order[(*n)++] = (struct order){
					i, k, ar->contents[e->value].size ? ar->contents[e->value].blob : NONE, ar->contents[e->value].offset,
					e->value, e->kind,
				};
		}
	if (*n)
		qsort(order, *n, sizeof(*order), compareorder);
	return order;
}

/*
 * One file of a store serves all layers that have its bytes, as when several wheels bring the same library: by links,
 * if they are made together and the filesystem has links. A process that loads it twice has it once.
 */
static int
linkfile(const struct archive *ar, const struct progress *p, uint32_t index, const struct progress *q, uint32_t other)
{
	const struct entry *e = &ar->entries[p->layer->first_entry + index];
	const struct entry *f = &ar->entries[q->layer->first_entry + other];

	/* what is extracted is the user's to change, and bytecode the interpreters': here, and not there, too */
	if (!p->target->object || !q->target->object)
		return 0;
	if (e->value != f->value || e->kind != f->kind || ar->contents[e->value].size < WORTH_A_LINK)
		return 0;
	if (linkat(q->target->dir, archivestring(ar, f->path), p->target->dir, archivestring(ar, e->path), 0) < 0)
		return 0;
	memcpy(p->digests[index], q->digests[other], DIGEST_SIZE);
	return 1;
}

/* files that are written one after the other: so many, or so many bytes */
enum { BATCH_FILES = 16, BATCH_BYTES = 1 << 20 };

/* threads at most; and what one more of them is worth its making, in bytes and in files */
enum { MAX_THREADS = 4, THREAD_BYTES = 1 << 19, THREAD_FILES = 64 };

/* threads call little; 64 KiB are enough for that, and for sanitizers */
enum { STACK = 1 << 18 };

static int
writebatch(struct worker *w, size_t first, size_t end, struct lot **lot)
{
	const struct job *job = w->job;
	const struct order *o, *before;
	int again;
	size_t i;

	for (i = first; i < end; i++) {
		o = &job->order[i];
		/* what is the same as the one before it is of the same batch */
		before = i > first ? o - 1 : NULL;
		again = before && before->content == o->content;
		if (before && linkfile(job->archive, &job->all[o->target], o->entry, &job->all[before->target], before->entry))
			continue;
		if (writefile(w, o, lot, again) < 0)
			return -1;
	}
	return 0;
}

/* the files of a blob that can be written next: behind the last one. Those of the same bytes stay together */
static size_t
batchof(const struct job *job, const struct lot *l)
{
	const struct content *contents = job->archive->contents, *c;
	const struct order *o;
	uint64_t bytes = 0;
	size_t i;

	for (i = l->next; i < l->end; i++) {
		o = &job->order[i];
		c = &contents[o->content];
		if (i > l->next && o->content != o[-1].content && (i - l->next >= BATCH_FILES || bytes >= BATCH_BYTES))
			break;
		/* one that goes on in the next blob is there when this one is */
		if (l->state != LOT_READY && o->offset + c->size > l->there)
			break;
		bytes += c->size;
	}
	return i;
}

/* write some files that are ready: 1, or 0 if there are none, -1 with the fault. The mutex is held, but not meanwhile */
static int
writesome(struct worker *w)
{
	struct job *job = w->job;
	struct stock *s = &job->stock;
	struct lot *l = NULL;
	size_t i, first, end = 0;
	int failed;

	if (!s->ready)
		return 0;
	for (i = 0; i < s->resident_count && !end; i++) {
		l = s->resident[i];
		end = l->next < l->end ? batchof(job, l) : 0;
		if (end == l->next)
			end = 0;
	}
	if (!end)
		return 0;
	first = l->next;
	l->next = end;
	job->left -= end - first;
	stockhold(s, l);
	pthread_mutex_unlock(&s->mutex);
	failed = writebatch(w, first, end, &l);
	pthread_mutex_lock(&s->mutex);
	if (l)
		stockrelease(s, l);
	return failed ? -1 : 1;
}

/* with the mutex held: all threads are to end, and the first fault is what is told */
static void
giveupjob(struct job *job, const struct fault *fault, int error)
{
	if (!job->stock.failed) {
		job->stock.failed = 1;
		*job->fault = *fault;
		job->error = error;
	}
	stocktell(&job->stock);
}

/* what is ready is written first, so that its memory can be given back */
static void *
work(void *of)
{
	struct worker *w = of;
	struct job *job = w->job;
	struct stock *s = &job->stock;
	int done;

	pthread_mutex_lock(&s->mutex);
	while (!s->failed && job->left) {
		done = writesome(w);
		if (!done)
			done = stockdecode(s, &w->hand);
		if (done < 0)
			giveupjob(job, &w->hand.fault, errno);
		else if (!done)
			stockwait(s);
	}
	/* who waits for something to do has to see that there is nothing left */
	stocktell(s);
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

static uint32_t
cpus(void)
{
	cpu_set_t sets[8];
	int n = sched_getaffinity(0, sizeof(sets), sets) < 0 ? 1 : CPU_COUNT_S(sizeof(sets), sets);

	return n < 1 ? 1 : (uint32_t)n;
}

/* how many threads: as many as there are CPUs for, but one is enough for a small tool */
static uint32_t
threadsfor(const struct job *job)
{
	uint32_t n = 1, most;
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < job->count; i++)
		bytes += job->archive->contents[job->order[i].content].size;
	if (bytes < THREAD_BYTES && job->count < THREAD_FILES)
		return 1;
	most = cpus();
	for (n = 1; n < most && n < MAX_THREADS && (bytes > n * THREAD_BYTES || job->count > n * THREAD_FILES); n++)
		;
	return n;
}

static int
compareblobs(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* the blobs a content goes on in, behind the one it begins in */
static uint32_t
partsof(const struct archive *ar, const struct order *o)
{
	const struct content *c = &ar->contents[o->content];
	uint64_t at = c->offset + c->size;
	uint32_t blob = o->blob, n = 0;

	for (; o->blob != NONE && at > ar->blobs[blob].raw_size; n++)
		at -= ar->blobs[blob++].raw_size;
	return n;
}

/* all blobs that something is needed of, each once */
static uint32_t *
blobsof(const struct job *job, size_t *count)
{
	const struct archive *ar = job->archive;
	size_t i, n = 0, room = 64, unique;
	uint32_t *blobs = xcalloc(room, sizeof(*blobs)), k, parts;
	const struct order *o;

	for (i = 0; i < job->count; i++) {
		o = &job->order[i];
		if (i && o->content == o[-1].content)
			continue;
		parts = partsof(ar, o);
		for (k = 0; k <= parts; k++) {
			if (n && k == 0 && blobs[n - 1] == o->blob)
				continue;
			if (n == room)
				blobs = xrealloc(blobs, (room *= 2) * sizeof(*blobs));
			blobs[n++] = o->blob + k;
		}
	}
	for (i = 0, unique = n; i < unique; i++)
		for (k = 0; blobs[i] != NONE && k < ar->blobs[blobs[i]].base_count; k++) {
			if (n == room)
				blobs = xrealloc(blobs, (room *= 2) * sizeof(*blobs));
			blobs[n++] = ar->blobs[blobs[i]].bases[k];
		}
	if (n)
		qsort(blobs, n, sizeof(*blobs), compareblobs);
	for (i = unique = 0; i < n; i++)
		if (!i || blobs[i] != blobs[i - 1])
			blobs[unique++] = blobs[i];
	*count = unique;
	return blobs;
}

/* the stock's lots with the files that begin in each */
static void
openstock(struct job *job)
{
	size_t count, i, at;
	uint32_t *blobs CLEANUP(freemem) = blobsof(job, &count);
	struct lot *lots = xcalloc(count, sizeof(*lots)), *l;
	const struct order *o;
	uint32_t k, parts;

	for (i = at = 0; i < count; i++) {
		lots[i].blob = blobs[i];
		lots[i].first = lots[i].next = at;
		for (; at < job->count && job->order[at].blob == blobs[i]; at++)
			;
		lots[i].end = at;
	}
	/* a content's blobs follow each other, in the archive and here */
	for (i = 0; i < count; i++)
		for (at = lots[i].first; at < lots[i].end; at++) {
			o = &job->order[at];
			if (at > lots[i].first && o->content == o[-1].content)
				continue;
			parts = partsof(job->archive, o);
			for (k = 1, l = &lots[i] + 1; k <= parts; k++, l++) {
				l->parts++;
				l->continued = 1;
			}
		}
	stockopen(&job->stock, job->archive, lots, count);
}

static int
ismodule(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && strcmp(path + n - 3, ".py") == 0;
}

/* directories, links and the places of bytecode: everything of a layer but its files */
static int
writeskeleton(const struct archive *ar, const struct target *t, struct fault *fault)
{
	const struct layer *l = &ar->layers[t->layer];
	const char *path, *before = "", *slash;
	char *last CLEANUP(freemem) = xstrdup("/");
	const struct entry *e;
	uint32_t i;
	size_t n;

	for (i = 0; i < l->entry_count; i++, before = path) {
		e = &ar->entries[l->first_entry + i];
		path = archivestring(ar, e->path);
		if (makeparents(t->dir, path, before, fault) < 0)
			return -1;
		if (e->kind == ENTRY_LINK && symlinkat(archivestring(ar, e->value), t->dir, path) < 0)
			return failat(ar, l, e, "make link", fault);
		if (e->kind == ENTRY_DIR && mkdirat(t->dir, path, 0755) < 0)
			return failat(ar, l, e, "make directory", fault);
		if (!t->object || (e->kind != ENTRY_FILE && e->kind != ENTRY_EXEC) || !ismodule(path))
			continue;
		slash = strrchr(path, '/');
		n = slash ? (size_t)(slash - path) : 0;
		if (strlen(last) == n && strncmp(last, path, n) == 0)
			continue;
		free(last);
		last = xasprintf("%.*s", (int)n, path);
		if (objectbytecode(t->object, last, fault) < 0)
			return -1;
	}
	return 0;
}

/* directories and links, for which the other threads wait with files, but not with decoding */
static int
writeskeletons(struct job *job, const struct target *targets, uint32_t count, struct fault *fault)
{
	int failed = 0;
	uint32_t i;

	for (i = 0; i < count && !failed; i++)
		if (targets[i].dir >= 0)
			failed = writeskeleton(job->archive, &targets[i], fault);
	return failed;
}

/* that a thread cannot be made is no failure: there is one less, and one is enough */
static uint32_t
startthreads(struct job *job, struct worker *workers, uint32_t count)
{
	pthread_attr_t attr;
	uint32_t n;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (n = 1; n < count; n++) {
		workers[n].job = job;
		handopen(&workers[n].hand, job->archive);
		if (pthread_create(&workers[n].thread, &attr, work, &workers[n]) != 0) {
			handclose(&workers[n].hand);
			break;
		}
	}
	pthread_attr_destroy(&attr);
	return n;
}

static int
writefiles(struct job *job, const struct target *targets, uint32_t count, struct fault *fault)
{
	struct worker workers[MAX_THREADS];
	struct fault own;
	uint32_t i, n;

	job->order = orderof(job->archive, job->all, count, &job->count);
	job->left = job->count;
	job->fault = fault;
	openstock(job);
	n = startthreads(job, workers, threadsfor(job));
	workers[0].job = job;
	handopen(&workers[0].hand, job->archive);
	i = writeskeletons(job, targets, count, &own) < 0;
	pthread_mutex_lock(&job->stock.mutex);
	if (i)
		giveupjob(job, &own, errno);
	job->stock.ready = 1;
	stocktell(&job->stock);
	pthread_mutex_unlock(&job->stock.mutex);
	work(&workers[0]);
	for (i = 1; i < n; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < n; i++)
		handclose(&workers[i].hand);
	i = job->stock.failed;
	stockclose(&job->stock);
	free(job->order);
	if (i)
		errno = job->error;
	return i ? -1 : 0;
}

static int
checkdigest(const struct archive *ar, const struct progress *p, struct fault *fault)
{
	const struct layer *l = p->layer;
	uint8_t digest[DIGEST_SIZE];
	const struct entry *e;
	const char *path;
	struct tree t;
	uint32_t i;

	treestart(&t);
	for (i = 0; i < l->entry_count; i++) {
		e = &ar->entries[l->first_entry + i];
		path = archivestring(ar, e->path);
		if (e->kind == ENTRY_LINK)
			treelink(&t, path, archivestring(ar, e->value));
		else if (e->kind == ENTRY_DIR)
			treedir(&t, path);
		else
			treefile(&t, path, e->kind == ENTRY_EXEC, ar->contents[e->value].size, p->digests[i]);
	}
	treeend(&t, digest);
	errno = 0; /* what the system said before is not the reason */
	if (memcmp(digest, l->digest, sizeof(digest)) != 0)
		return fail(fault, STATUS_LAUNCHER, "archive is damaged: layer %s has the wrong digest", archivestring(ar, l->name));
	return 0;
}

int
unpack(struct archive *ar, const struct target *targets, uint32_t count, struct fault *fault)
{
	struct progress *all CLEANUP(freemem) = xcalloc(count, sizeof(*all));
	struct job job = {.archive = ar, .all = all};
	uint32_t i;
	int failed;

	for (i = 0; i < count; i++) {
		all[i].target = &targets[i];
		all[i].layer = &ar->layers[targets[i].layer];
		all[i].digests = xcalloc(all[i].layer->entry_count, sizeof(*all[i].digests));
	}
	failed = writefiles(&job, targets, count, fault);
	for (i = 0; i < count && !failed; i++)
		failed = checkdigest(ar, &all[i], fault);
	for (i = 0; i < count; i++)
		free(all[i].digests);
	return failed;
}
