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

/* every file's time: 1980-01-01, the oldest a zip file knows; bytecode is checked against it */
enum { FILE_TIME = 315532800 };

int
unpackcontent(struct archive *ar, struct blobs *blobs, uint32_t index, putfn *put, void *to, struct fault *fault)
{
	const struct content *c = &ar->contents[index];
	uint32_t blob = c->blob, offset = c->offset;
	uint64_t left = c->size;
	const uint8_t *data;
	size_t n;

	for (; left; blob++, offset = 0, left -= n) {
		data = blobsget(blobs, blob, fault);
		if (!data)
			return -1;
		n = ar->blobs[blob].raw_size - offset;
		if (n > left)
			n = (size_t)left;
		if (put(to, data + offset, n, fault) < 0)
			return -1;
	}
	return 0;
}

/* a file's bytes on their way: counted into its digest and, with a descriptor, written */
struct sink {
	struct sha256 sum;
	int fd;
};

static int
putsink(void *to, const uint8_t *data, size_t n, struct fault *fault)
{
	struct sink *sink = to;
	ssize_t k;

	sha256add(&sink->sum, data, n);
	while (sink->fd >= 0 && n) {
		k = write(sink->fd, data, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return fail(fault, STATUS_LAUNCHER, "write to store:");
		data += k;
		n -= (size_t)k;
	}
	return 0;
}

static int
writefile(struct archive *ar, struct blobs *blobs, const struct entry *e, int tree, uint8_t *digest, struct fault *fault)
{
	const char *path = archivestring(ar, e->path);
	const struct timespec times[2] = {{.tv_sec = FILE_TIME}, {.tv_sec = FILE_TIME}};
	struct sink sink = {.fd = -1};
	int fd CLEANUP(closefd) = -1;

	if (tree >= 0) {
		fd = openat(tree, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, e->kind == ENTRY_EXEC ? 0555 : 0444);
		if (fd < 0)
			return fail(fault, STATUS_LAUNCHER, "write %s to store:", path);
		sink.fd = fd;
	}
	sha256start(&sink.sum);
	if (unpackcontent(ar, blobs, e->value, putsink, &sink, fault) < 0)
		return -1;
	sha256end(&sink.sum, digest);
	if (fd >= 0 && futimens(fd, times) < 0)
		return fail(fault, STATUS_LAUNCHER, "set time of %s in store:", path);
	return 0;
}

/* files in the order in which their bytes stand in the archive */
struct order {
	uint32_t entry;
	uint32_t blob;
	uint32_t offset;
};

static int
compareorder(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->blob != y->blob)
		return x->blob < y->blob ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static int
writefiles(struct archive *ar, struct blobs *blobs, const struct layer *l, int tree, uint8_t (*digests)[DIGEST_SIZE],
           struct fault *fault)
{
	struct order *order CLEANUP(freemem) = xcalloc(l->entry_count, sizeof(*order));
	const struct entry *e;
	uint32_t i, count = 0;

	for (i = 0; i < l->entry_count; i++) {
		e = &ar->entries[l->first_entry + i];
		if (e->kind == ENTRY_FILE || e->kind == ENTRY_EXEC)
			order[count++] = (struct order){i, ar->contents[e->value].blob, ar->contents[e->value].offset};
	}
	qsort(order, count, sizeof(*order), compareorder);
	for (i = 0; i < count; i++)
		if (writefile(ar, blobs, &ar->entries[l->first_entry + order[i].entry], tree, digests[order[i].entry], fault) < 0)
			return -1;
	return 0;
}

static int
ismodule(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && strcmp(path + n - 3, ".py") == 0;
}

/* directories, links and the places of bytecode: everything of a layer but its files */
static int
writeskeleton(const struct archive *ar, const struct layer *l, struct object *o, struct fault *fault)
{
	const char *path, *before = "", *slash;
	char *last CLEANUP(freemem) = xstrdup("/");
	const struct entry *e;
	uint32_t i;
	size_t n;

	for (i = 0; i < l->entry_count; i++, before = path) {
		e = &ar->entries[l->first_entry + i];
		path = archivestring(ar, e->path);
		if (objectparents(o, path, before, fault) < 0)
			return -1;
		if (e->kind == ENTRY_LINK && symlinkat(archivestring(ar, e->value), o->tree, path) < 0)
			return fail(fault, STATUS_LAUNCHER, "make link %s in store:", path);
		if (e->kind == ENTRY_DIR && mkdirat(o->tree, path, 0755) < 0)
			return fail(fault, STATUS_LAUNCHER, "make directory %s in store:", path);
		if (o->fd < 0 || e->kind != ENTRY_FILE || !ismodule(path))
			continue;
		slash = strrchr(path, '/');
		n = slash ? (size_t)(slash - path) : 0;
		if (strlen(last) == n && strncmp(last, path, n) == 0)
			continue;
		free(last);
		last = xasprintf("%.*s", (int)n, path);
		if (objectbytecode(o, last, fault) < 0)
			return -1;
	}
	return 0;
}

static int
checkdigest(const struct archive *ar, const struct layer *l, uint8_t (*digests)[DIGEST_SIZE], struct fault *fault)
{
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
			treefile(&t, path, e->kind == ENTRY_EXEC, ar->contents[e->value].size, digests[i]);
	}
	treeend(&t, digest);
	if (memcmp(digest, l->digest, sizeof(digest)) != 0)
		return fail(fault, STATUS_LAUNCHER, "archive is damaged: layer %s has the wrong digest", archivestring(ar, l->name));
	return 0;
}

static int
unpack(struct archive *ar, struct blobs *blobs, uint32_t layer, struct object *o, struct fault *fault)
{
	const struct layer *l = &ar->layers[layer];
	uint8_t (*digests)[DIGEST_SIZE] CLEANUP(freemem) = xcalloc(l->entry_count, sizeof(*digests));

	if (o && writeskeleton(ar, l, o, fault) < 0)
		return -1;
	if (writefiles(ar, blobs, l, o ? o->tree : -1, digests, fault) < 0)
		return -1;
	return checkdigest(ar, l, digests, fault);
}

int
unpacklayer(struct archive *ar, struct blobs *blobs, uint32_t layer, struct object *o, struct fault *fault)
{
	return unpack(ar, blobs, layer, o, fault);
}

int
unpackverify(struct archive *ar, struct blobs *blobs, uint32_t layer, struct fault *fault)
{
	return unpack(ar, blobs, layer, NULL, fault);
}
