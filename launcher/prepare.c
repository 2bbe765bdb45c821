#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "fatpar.h"
#include "archive.h"
#include "decide.h"
#include "explain.h"
#include "fault.h"
#include "host.h"
#include "object.h"
#include "plan.h"
#include "prepare.h"
#include "select.h"
#include "sha256.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include "util.h"
#include "view.h"

/* another launch that unpacks is waited for this long, in tenths of a second; after that both go on, correct but slow */
enum { LOCK_TRIES = 600 };

/* layers that are unpacked at once, each with three descriptors; where few may be open, fewer: these are for the rest */
enum { BATCH = 64, OTHER_DESCRIPTORS = 32 };

/* what a file takes beyond its size, at most, where there is no better knowledge of the filesystem */
enum { BLOCK = 4096 };

struct work {
	struct archive *ar;
	struct stores *stores;
	const char *boot;
	struct host host;
	struct selection *sel;
	const struct slice *slice;
	const struct verdict *verdict;
	struct places places;
	char view[33];
	int locked;             /* no other launch works in the store, as far as locks are to be had */
	int doubt;              /* part of the view is missing: nothing is believed that was not looked at */
};

static void
layerid(const struct archive *ar, uint32_t layer, char id[2 * DIGEST_SIZE + 1])
{
	hexof(ar->layers[layer].digest, DIGEST_SIZE, id);
}

/* what was made in this boot is in memory or on disk; after another boot only what was found whole since then is */
static int
istrusted(const struct work *w, const char *made)
{
	if (w->doubt)
		return 0;
	return strcmp(made, "durable") == 0 || (strcmp(made, w->boot) == 0 && strcmp(made, "unknown") != 0);
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

/* remove an object that cannot be used, unless another launch, where locks do not work, has put a new one there since */
static void
removestale(int parent, const char *name, const char *made)
{
	char now[64];

	if (faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	/* whatever is published has its made from the start */
	objectmade(parent, name, now);
	if (strcmp(now, made) == 0)
		objectremove(parent, name);
}

/*
 * Whether a store has a layer that can be used. One that a crash of the host damaged is removed, but by one launch at a
 * time: what the next one would remove is what the first has made anew.
 */
static int
haslayer(const struct work *w, const struct store *store, uint32_t layer)
{
	char id[2 * DIGEST_SIZE + 1], made[64];

	layerid(w->ar, layer, id);
	objectmade(store->layers, id, made);
	if (*made && istrusted(w, made))
		return 1;
	if (*made && layersurvived(w, store, layer, id)) {
		/* it was read from disk after a boot, so it is on disk; that this cannot be noted only costs another look */
		if (store->writable) {
			/* before the mark, after which nobody looks; without the lock, too: whoever lacks bytecode makes it anew */
			objectforget(store->layers, id);
			objectmark(store->layers, id, strcmp(w->boot, "unknown") ? "durable" : made);
		}
		return 1;
	}
	if (w->locked && store->writable)
		removestale(store->layers, id, made);
	return 0;
}

static uint32_t
layerof(const struct work *w, uint32_t i)
{
	return w->ar->refs[w->slice->first_layer + i];
}

/* every file and directory takes whole blocks */
static uint64_t
roomof(const struct layer *l)
{
	return l->size + BLOCK * ((uint64_t)l->entry_count + 1);
}

/*
 * Find the slice's layers in the stores up to the last one; the room that those take that are nowhere, 0: none is missing. What is preferred less
 * than the store that is written to is not looked at: a store that was named, to be put into an image say, must not
 * lean on the user's cache.
 */
static uint64_t
findlayers(struct work *w, uint32_t last)
{
	const struct layer *l;
	uint64_t missing = 0;
	uint32_t i, k, layer;

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
			missing += roomof(l);
	}
	for (i = 0; i < w->slice->layer_count; i++) {
		l = &w->ar->layers[layerof(w, i)];
		if (l->kind == LAYER_BYTECODE && !w->places.layers[l->of])
			missing += roomof(l);
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

/*
 * Move unpacked bytecode beside its layer, which other programs may be using: file by file, as interpreters do it. What
 * cannot be moved is compiled when it is imported. A layer that was durable is of this boot from then on: after a crash
 * of the host it is looked at again, and its bytecode removed.
 */
static void
adoptbytecode(const struct work *w, const struct store *store, uint32_t layer, struct object *o)
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
	if (fd >= 0 && strcmp(made, "durable") == 0 && strcmp(w->boot, "unknown") != 0)
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

/* unpack some layers, and publish them when all of them are right */
static int
addbatch(struct work *w, struct store *store, const uint32_t *layers, uint32_t count, struct fault *fault)
{
	struct making *making CLEANUP(freemem) = xcalloc(count, sizeof(*making));
	struct target *targets CLEANUP(freemem) = xcalloc((size_t)count + w->slice->layer_count, sizeof(*targets));
	char id[2 * DIGEST_SIZE + 1];
	int failed = 0;
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
		if (!failed && w->ar->layers[layers[i]].kind == LAYER_BYTECODE)
			adoptbytecode(w, store, layers[i], &making[i].object);
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

static int
addlayers(struct work *w, struct store *store, struct fault *fault)
{
	uint32_t *missing CLEANUP(freemem) = xcalloc(w->slice->layer_count, sizeof(*missing));
	uint32_t count = listmissing(w, store, missing), size = batchsize(), i, n;

	for (i = 0; i < count; i += n) {
		n = count - i < size ? count - i : size;
		if (addbatch(w, store, missing + i, n, fault) < 0)
			return -1;
	}
	return 0;
}

/* let one launch at a time unpack into a store, so that nothing is unpacked twice; correct without it, too */
static int
lockstore(const struct store *store)
{
	int fd = openat(store->fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644), tries;
	const struct timespec pause = {.tv_nsec = 100000000};

	for (tries = 0; fd >= 0 && tries < LOCK_TRIES; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR))
			break;
		nanosleep(&pause, NULL);
	}
	return fd;
}

/* the store, of those up to the last one, whose view can be used as it is; or NULL */
static struct store *
findview(struct work *w, uint32_t last)
{
	char made[64];
	uint32_t i;

	for (i = 0; i <= last; i++) {
		if (w->stores->list[i].fd < 0)
			continue;
		objectmade(w->stores->list[i].views, w->view, made);
		if (!*made || !istrusted(w, made))
			continue;
		if (viewleads(w->ar, w->sel->slice, &w->stores->list[i], w->view))
			return &w->stores->list[i];
		/* somebody, or a program that removes old files, took a part */
		w->doubt = 1;
	}
	return NULL;
}

/* a view in this store whose layers are all there: kept if it is whole, else made */
static int
addview(struct work *w, struct store *store, struct fault *fault)
{
	uint32_t slice = w->sel->slice;
	char made[64];

	objectmade(store->views, w->view, made);
	if (*made && istrusted(w, made))
		return 0;
	if (*made && viewholds(w->ar, slice, &w->host, w->verdict, &w->places, store, w->view)) {
		objectforget(store->views, w->view);
		viewbytecode(w->ar, slice, &w->places, store, w->view);
		objectmark(store->views, w->view, strcmp(w->boot, "unknown") ? "durable" : made);
		return 0;
	}
	removestale(store->views, w->view, made);
	return viewmake(w->ar, slice, &w->host, w->verdict, &w->places, store, w->view, w->boot, fault);
}

/* unpack into a store what is missing and link the view there */
static int
fillstore(struct work *w, struct store *store, uint32_t last, struct fault *fault)
{
	int lock = lockstore(store), failed;

	/* first, so that there is room */
	objectsweep(store->layers);
	objectsweep(store->views);
	planssweep(store->plans);
	w->locked = 1;
	/* what another launch unpacked in the meantime is there now */
	findlayers(w, last);
	failed = addlayers(w, store, fault);
	if (!failed)
		failed = addview(w, store, fault);
	w->locked = 0;
	closefd(&lock);
	return failed;
}

/*
 * The store, of those that can only be read, that has all of it and where none of it was damaged since it was made: an
 * image's, say, that was filled on another machine. NULL with the fault.
 */
static struct store *
findwhole(struct work *w, struct fault *fault)
{
	struct store *store;
	char made[64];
	uint32_t i;

	for (i = 0; i < w->stores->count; i++) {
		store = &w->stores->list[i];
		if (store->fd < 0)
			continue;
		objectmade(store->views, w->view, made);
		if (*made && findlayers(w, i) == 0 &&
		    viewholds(w->ar, w->sel->slice, &w->host, w->verdict, &w->places, store, w->view))
			return store;
	}
	storesfail(w->stores, fault);
	return NULL;
}

/*
 * Find the view in the stores, or make it in the first that has room: the store it lies in, or NULL with the fault. A
 * store that turns out to be full gives way to the next one.
 */
static struct store *
makeready(struct work *w, struct fault *fault)
{
	uint32_t order[MAX_STORES], count;
	struct store *store;

	for (;;) {
		storesopen(w->stores, 1);
		count = storeswritable(w->stores, order);
		store = findview(w, count ? order[0] : w->stores->count - 1);
		if (store)
			return store;
		if (!count)
			return findwhole(w, fault);
		store = &w->stores->list[order[0]];
		if (storehasroom(store, findlayers(w, order[0]))) {
			errno = 0; /* a full store is told by it, and not every failure sets it */
			if (fillstore(w, store, order[0], fault) == 0)
				return store;
			if (errno != ENOSPC && errno != EDQUOT)
				return NULL;
			storerefuse(store, strerror(errno));
		}
	}
}

static void
planof(const struct work *w, const struct store *store, struct plan *plan)
{
	const struct archive *ar = w->ar;
	struct host *host = (struct host *)(uintptr_t)&w->host;
	uint32_t i;

	memset(plan, 0, sizeof(*plan));
	plan->view = xasprintf("%s/v1/views/%s/tree", store->base, w->view);
	plan->python = xstrdup(w->verdict->python == NONE ? "" : host->pythons[w->verdict->python].path);
	plan->slice = xstrdup(archivestring(ar, w->slice->name));
	plan->flag_count = w->slice->flag_count;
	plan->flags = xcalloc(plan->flag_count, sizeof(*plan->flags));
	for (i = 0; i < plan->flag_count; i++)
		plan->flags[i] = xstrdup(archivestring(ar, ar->refs[w->slice->first_flag + i]));
	plan->tool_count = ar->tool_count;
	plan->tools = xcalloc(plan->tool_count, sizeof(*plan->tools));
	for (i = 0; i < ar->tool_count; i++)
		plan->tools[i] = (struct plan_tool){
			xstrdup(archivestring(ar, ar->tools[i].name)), ar->tools[i].kind, xstrdup(archivestring(ar, ar->tools[i].target)),
		};
	plan->watches = host->watches;
	plan->watch_count = host->watch_count;
}

/* a layer that is taken away, by whatever cleans up old files, changes the directory of all of them */
static void
watchlayers(struct work *w, const struct store *last)
{
	const struct store *store;

	for (store = w->stores->list; store <= last; store++) {
		char *path CLEANUP(freemem) = store->fd < 0 ? NULL : xasprintf("%s/v1/layers", store->base);

		if (path)
			hostwatch(&w->host, path);
	}
}

static void
writeplan(struct work *w, const struct store *made, const struct plan *plan)
{
	uint32_t order[MAX_STORES], count = storeswritable(w->stores, order);
	const struct store *store = made->writable ? made : count ? &w->stores->list[order[0]] : NULL;
	char name[33];

	if (!store)
		return;
	planname(w->ar, &w->host, w->boot, w->host.path_consulted, name);
	planwrite(plan, store->plans, name);
}

int
prepare(struct archive *ar, struct stores *stores, const char *boot, struct plan *plan, struct fault *fault)
{
	struct work w = {.ar = ar, .stores = stores, .boot = boot};
	enum archive_status status;
	struct store *store;
	char *text, *python;
	mode_t mask;

	status = archiveindex(ar);
	if (status)
		return fail(fault, STATUS_LAUNCHER, "%s", archivedescribe(ar, status));
	w.sel = xcalloc(1, sizeof(*w.sel));
	decide(&w.host, w.sel, ar);
	if (w.sel->slice == NONE) {
		text = refusaltext(ar, &w.host, w.sel);
		fail(fault, STATUS_UNFIT, "%s", text);
		snprintf(fault->hint, sizeof(fault->hint), "run with FATPAR=explain to see every slice");
		free(text);
		return -1;
	}
	w.slice = &ar->slices[w.sel->slice];
	w.verdict = &w.sel->verdicts[w.sel->slice];
	w.places.layers = xcalloc(ar->layer_count, sizeof(*w.places.layers));
	viewname(ar, w.sel->slice, &w.host, w.verdict, w.view);
	/* modes in the store are what we say, whatever the user's mask; it is the application's again afterwards */
	mask = umask(0);
	store = makeready(&w, fault);
	if (store) {
		planof(&w, store, plan);
		/* the view with the interpreter behind it: gone, replaced or upgraded, the plan is void */
		python = xasprintf("%s/bin/python", plan->view);
		hostwatch(&w.host, python);
		free(python);
		watchlayers(&w, store);
		plan->watches = w.host.watches;
		plan->watch_count = w.host.watch_count;
		writeplan(&w, store, plan);
	}
	umask(mask);
	return store ? 0 : -1;
}
