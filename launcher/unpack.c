#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "blobs.h"
#include "fault.h"
#include "object.h"
#include "sha256.h"
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

/* a content's bytes: counted into the digest and, with a descriptor, written; 1 with errno if they cannot be */
static int
writecontent(struct archive *ar, struct blobs *blobs, uint32_t index, int fd, uint8_t digest[DIGEST_SIZE], struct fault *fault)
{
	const struct content *c = &ar->contents[index];
	uint32_t blob = c->blob, offset = c->offset;
	uint64_t left = c->size;
	const uint8_t *data;
	struct sha256 sum;
	size_t n;

	sha256start(&sum);
	for (; left; blob++, offset = 0, left -= n) {
		data = blobsget(blobs, blob, fault);
		if (!data)
			return -1;
		n = ar->blobs[blob].raw_size - offset;
		if (n > left)
			n = (size_t)left;
		sha256add(&sum, data + offset, n);
		if (fd >= 0 && writeall(fd, data + offset, n) < 0)
			return 1;
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
writefile(struct archive *ar, struct blobs *blobs, const struct progress *p, uint32_t index, struct fault *fault)
{
	const struct entry *e = &ar->entries[p->layer->first_entry + index];
	const char *path = archivestring(ar, e->path);
	const struct timespec times[2] = {{.tv_sec = FILE_TIME}, {.tv_sec = FILE_TIME}};
	int fd CLEANUP(closefd) = -1, failed;

	if (p->target->dir >= 0) {
		fd = openat(p->target->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, modeof(p->layer, e));
		if (fd < 0)
			return failat(ar, p->layer, e, "write", fault);
	}
	failed = writecontent(ar, blobs, e->value, fd, p->digests[index], fault);
	if (failed)
		return failed < 0 ? -1 : failat(ar, p->layer, e, "write", fault);
	if (fd >= 0 && futimens(fd, times) < 0)
		return failat(ar, p->layer, e, "set time of", fault);
	return 0;
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
					i, k, ar->contents[e->value].blob, ar->contents[e->value].offset, e->value, e->kind,
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

static int
writefiles(struct archive *ar, const struct progress *all, uint32_t count, struct fault *fault)
{
	struct order *order CLEANUP(freemem) = NULL;
	const struct progress *p;
	struct blobs blobs;
	size_t i, n;
	int failed = 0;

	order = orderof(ar, all, count, &n);
	blobsopen(&blobs, ar);
	for (i = 0; i < n && !failed; i++) {
		p = &all[order[i].target];
		if (!i || !linkfile(ar, p, order[i].entry, &all[order[i - 1].target], order[i - 1].entry))
			failed = writefile(ar, &blobs, p, order[i].entry, fault);
	}
	blobsclose(&blobs);
	return failed;
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
	if (memcmp(digest, l->digest, sizeof(digest)) != 0)
		return fail(fault, STATUS_LAUNCHER, "archive is damaged: layer %s has the wrong digest", archivestring(ar, l->name));
	return 0;
}

int
unpack(struct archive *ar, const struct target *targets, uint32_t count, struct fault *fault)
{
	struct progress *all CLEANUP(freemem) = xcalloc(count, sizeof(*all));
	int failed = 0;
	uint32_t i;

	for (i = 0; i < count; i++) {
		all[i].target = &targets[i];
		all[i].layer = &ar->layers[targets[i].layer];
		all[i].digests = xcalloc(all[i].layer->entry_count, sizeof(*all[i].digests));
	}
	for (i = 0; i < count && !failed; i++)
		if (targets[i].dir >= 0)
			failed = writeskeleton(ar, &targets[i], fault);
	if (!failed)
		failed = writefiles(ar, all, count, fault);
	for (i = 0; i < count && !failed; i++)
		failed = checkdigest(ar, &all[i], fault);
	for (i = 0; i < count; i++)
		free(all[i].digests);
	return failed;
}
