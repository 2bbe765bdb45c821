#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "fault.h"
#include "host.h"
#include "object.h"
#include "select.h"
#include "sha256.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include "util.h"
#include "view.h"
#include "layers.h"

/* layers that are unpacked at once, each with three descriptors; where few may be open, fewer: these are for the rest */
enum { BATCH = 64, OTHER_DESCRIPTORS = 32 };

/* what a file takes beyond its size, at most, where there is no better knowledge of the filesystem */
enum { BLOCK = 4096 };

static void
layerid(const struct archive *ar, uint32_t layer, char id[2 * DIGEST_SIZE + 1])
{
	hexof(ar->layers[layer].digest, DIGEST_SIZE, id);
}

int
istrusted(const struct work *w, const char *made)
{
	if (w->doubt)
		return 0;
	return strcmp(made, "durable") == 0 || (strcmp(made, w->boot) == 0 && strcmp(made, "unknown") != 0);
}

const char *
wholemark(const struct work *w, const char *made)
{
	return strcmp(w->boot, "unknown") == 0 || strcmp(made, w->boot) == 0 ? made : "durable";
}

/* whether a layer from another boot survived it: its digest is right */
static int
layersurvived(const struct work *w, const struct store *store, uint32_t layer, const char *id)
{
	char *path CLEANUP(freemem) = xasprintf("%s/tree", id);
	int fd CLEANUP(closefd) = openat(store->layers, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	uint8_t digest[DIGEST_SIZE];
	struct fault fault;

	if (fd < 0 || treeread(fd, digest, &fault) < 0)
		return 0;
	return memcmp(digest, w->ar->layers[layer].digest, DIGEST_SIZE) == 0;
}

/*
 * Whether a store has a layer that can be used. One that a crash of the host damaged is removed, but by one launch at a
 * time: what the next one would remove is what the first has made anew.
 */
static int
haslayer(struct work *w, const struct store *store, uint32_t layer)
{
	char id[2 * DIGEST_SIZE + 1], made[64];
	int unread;

	layerid(w->ar, layer, id);
	unread = objectmade(store->layers, id, made);
	if (*made && istrusted(w, made)) {
		objectused(store->layers, id);
		return 1;
	}
	if (*made && layersurvived(w, store, layer, id)) {
		/* that this cannot be noted only costs another look */
		if (store->writable) {
			/* before the mark, after which nobody looks; without the lock, too: whoever lacks bytecode makes it anew */
			objectforget(store->layers, id);
			objectmark(store->layers, id, wholemark(w, made));
		}
		return 1;
	}
	if (w->locked && store->writable && (unread || objectremovestale(store->layers, id, made) < 0))
		w->stuck = unread ? unread : errno;
	return 0;
}

static uint32_t
layerof(const struct work *w, uint32_t i)
{
	return w->ar->refs[w->slice->first_layer + i];
}

int
layerstrusted(const struct work *w, uint32_t last)
{
	char id[2 * DIGEST_SIZE + 1], made[64];
	const struct store *store;
	uint32_t i, k;

	for (i = 0; i < w->slice->layer_count; i++) {
		if (w->ar->layers[layerof(w, i)].kind == LAYER_BYTECODE)
			continue;
		layerid(w->ar, layerof(w, i), id);
		for (k = 0; k <= last; k++) {
			store = &w->stores->list[k];
			if (store->fd < 0 || !store->writable)
				continue;
			objectmade(store->layers, id, made);
			if (*made && !istrusted(w, made))
				return 0;
		}
	}
	return 1;
}

/* every file and directory takes whole blocks */
static uint64_t
roomof(const struct layer *l)
{
	uint64_t blocks = BLOCK * ((uint64_t)l->entry_count + 1);

	return l->size > UINT64_MAX - blocks ? UINT64_MAX : l->size + blocks;
}

/* a hostile archive's sizes may be more than a number can say: then the most, for which no store has room */
static uint64_t
addroom(uint64_t room, const struct layer *l)
{
	uint64_t more = roomof(l);

	return room > UINT64_MAX - more ? UINT64_MAX : room + more;
}

uint64_t
findlayers(struct work *w, uint32_t last)
{
	const struct layer *l;
	uint64_t missing = 0;
	uint32_t i, k, layer;

	w->stuck = 0;
	for (i = 0; i < w->slice->layer_count; i++) {
		layer = layerof(w, i);
		l = &w->ar->layers[layer];
		w->places.layers[layer] = NULL;
		if (l->kind == LAYER_BYTECODE)
			continue;
		for (k = 0; k <= last && !w->places.layers[layer]; k++)
			if (w->stores->list[k].fd >= 0 && haslayer(w, &w->stores->list[k], layer))
				w->places.layers[layer] = &w->stores->list[k];
		if (!w->places.layers[layer])
			missing = addroom(missing, l);
	}
	for (i = 0; i < w->slice->layer_count; i++) {
		l = &w->ar->layers[layerof(w, i)];
		if (l->kind == LAYER_BYTECODE && !w->places.layers[l->of])
			missing = addroom(missing, l);
	}
	return missing;
}

/* whether all of a bytecode layer's files lie beside the layer they were compiled from */
static int
hasbytecode(const struct work *w, const struct store *store, uint32_t layer)
{
	const struct layer *l = &w->ar->layers[layer];
	char id[2 * DIGEST_SIZE + 1];
	char *path CLEANUP(freemem) = NULL;
	int fd CLEANUP(closefd) = -1;
	uint32_t i;

	layerid(w->ar, l->of, id);
	path = xasprintf("%s/pyc", id);
	fd = openat(store->layers, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (i = 0; i < l->entry_count && fd >= 0; i++)
		if (faccessat(fd, archivestring(w->ar, w->ar->entries[l->first_entry + i].path), F_OK, 0) < 0)
			return 0;
	return fd >= 0;
}

/* whether all that was unpacked is on disk; asked for once */
static int
isondisk(const struct store *store, int *synced)
{
	if (!*synced)
		*synced = syncfs(store->layers) == 0 ? 1 : -1;
	return *synced > 0;
}

/*
 * Move unpacked bytecode beside its layer, which other programs may be using: file by file, as interpreters do it. What
 * cannot be moved is compiled when it is imported. Beside a layer that was durable, and that nobody looks at after a
 * crash of the host, no name may reach the disk before its content. Where that cannot be had, the layer is of this boot
 * from then on, and is looked at.
 */
static void
adoptbytecode(const struct work *w, const struct store *store, uint32_t layer, struct object *o, int *synced)
{
	const struct layer *l = &w->ar->layers[layer];
	char id[2 * DIGEST_SIZE + 1], made[64];
	char *pyc CLEANUP(freemem) = NULL;
	int fd CLEANUP(closefd) = -1;
	const char *path, *before = "";
	struct fault fault;
	uint32_t i;

	layerid(w->ar, l->of, id);
	objectmade(store->layers, id, made);
	pyc = xasprintf("%s/pyc", id);
	fd = openat(store->layers, pyc, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && strcmp(made, "durable") == 0 && strcmp(w->boot, "unknown") != 0 && !isondisk(store, synced))
		objectmark(store->layers, id, w->boot);
	for (i = 0; i < l->entry_count && fd >= 0; i++, before = path) {
		path = archivestring(w->ar, w->ar->entries[l->first_entry + i].path);
		if (makeparents(fd, path, before, &fault) == 0)
			renameat(o->tree, path, fd, path);
	}
	objectdiscard(o);
}

/* an object while it is made: of a layer, with the bytecode that belongs to it, or of bytecode alone */
struct making {
	struct object object;
	int pyc;
};

/* what a batch unpacks: its layers, and the bytecode of those */
static uint32_t
targetsof(const struct work *w, const uint32_t *layers, struct making *making, uint32_t count, struct target *targets,
          struct fault *fault)
{
	uint32_t i, k, n = 0, layer;
	const struct layer *l;

	for (i = 0; i < count; i++) {
		l = &w->ar->layers[layers[i]];
		targets[n++] = (struct target){layers[i], making[i].object.tree, l->kind == LAYER_BYTECODE ? NULL : &making[i].object};
	}
	for (k = 0; k < w->slice->layer_count; k++) {
		layer = layerof(w, k);
		l = &w->ar->layers[layer];
		for (i = 0; i < count && (l->kind != LAYER_BYTECODE || l->of != layers[i]); i++)
			;
		if (i == count)
			continue;
		if (mkdirat(making[i].object.fd, "pyc", 0755) < 0 && errno != EEXIST) {
			fail(fault, STATUS_LAUNCHER, "make directory for bytecode in store:");
			return 0;
		}
		if (making[i].pyc < 0)
			making[i].pyc = openat(making[i].object.fd, "pyc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (making[i].pyc < 0) {
			fail(fault, STATUS_LAUNCHER, "make directory for bytecode in store:");
			return 0;
		}
		targets[n++] = (struct target){layer, making[i].pyc, NULL};
	}
	return n;
}

/* what pruning reckons with; that it cannot be noted is no reason to fail */
static void
notesize(const struct layer *l, const struct object *o)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)roomof(l));
	if (o->fd >= 0 && symlinkat(text, o->fd, "size") < 0)
		return;
}

/* unpack some layers, and publish them when all of them are right */
static int
addbatch(struct work *w, struct store *store, const uint32_t *layers, uint32_t count, struct fault *fault)
{
	struct making *making CLEANUP(freemem) = xcalloc(count, sizeof(*making));
	struct target *targets CLEANUP(freemem) = xcalloc((size_t)count + w->slice->layer_count, sizeof(*targets));
	char id[2 * DIGEST_SIZE + 1];
	int failed = 0, synced = 0;
	uint32_t i, n;

	for (i = 0; i < count; i++)
		making[i] = (struct making){.object = {.fd = -1, .tree = -1}, .pyc = -1};
	for (i = 0; i < count && !failed; i++)
		failed = objectstart(&making[i].object, store->layers, fault);
	n = failed ? 0 : targetsof(w, layers, making, count, targets, fault);
	if (!n || unpack(w->ar, targets, n, fault) < 0)
		failed = -1;
	for (i = 0; i < count; i++) {
		closefd(&making[i].pyc);
		layerid(w->ar, layers[i], id);
		notesize(&w->ar->layers[layers[i]], &making[i].object);
		if (!failed && w->ar->layers[layers[i]].kind == LAYER_BYTECODE)
			adoptbytecode(w, store, layers[i], &making[i].object, &synced);
		else if (failed || objectpublish(&making[i].object, id, w->boot, 0, fault) < 0) {
			failed = -1;
			objectdiscard(&making[i].object);
		} else {
			w->places.layers[layers[i]] = store;
		}
	}
	return failed;
}

/* layers that are nowhere, and then bytecode that a layer of this store lacks: how many */
static uint32_t
listmissing(const struct work *w, const struct store *store, uint32_t *missing)
{
	uint32_t i, layer, n = 0;
	const struct layer *l;

	for (i = 0; i < w->slice->layer_count; i++) {
		layer = layerof(w, i);
		if (w->ar->layers[layer].kind != LAYER_BYTECODE && !w->places.layers[layer])
			missing[n++] = layer;
	}
	for (i = 0; i < w->slice->layer_count; i++) {
		layer = layerof(w, i);
		l = &w->ar->layers[layer];
		if (l->kind == LAYER_BYTECODE && w->places.layers[l->of] == store && !hasbytecode(w, store, layer))
			missing[n++] = layer;
	}
	return n;
}

static uint32_t
batchsize(void)
{
	long most = sysconf(_SC_OPEN_MAX);

	if (most < 0 || most >= 3 * BATCH + OTHER_DESCRIPTORS)
		return BATCH;
	return most <= OTHER_DESCRIPTORS + 3 ? 1 : (uint32_t)(most - OTHER_DESCRIPTORS) / 3;
}

int
addlayers(struct work *w, struct store *store, struct fault *fault)
{
	uint32_t *missing CLEANUP(freemem) = xcalloc(w->slice->layer_count, sizeof(*missing));
	uint32_t count = listmissing(w, store, missing), size = batchsize(), i, n;

	if (w->stuck) {
		errno = w->stuck;
		return fail(fault, STATUS_LAUNCHER, "remove a damaged layer from store:");
	}
	for (i = 0; i < count; i += n) {
		n = count - i < size ? count - i : size;
		if (addbatch(w, store, missing + i, n, fault) < 0)
			return -1;
	}
	return 0;
}
